//! Text of standard tools into the model. A reader never fails as a whole: it returns what it understood and says, line by
//! line, what it did not.

pub mod ipset_save;
pub mod iptables_save;
pub mod nft_json;

use std::borrow::Cow;

/// A name as text. One that is not UTF-8 has its bytes escaped and a remark behind it, so that different names stay different.
pub(crate) fn name_text(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(name) => Cow::Borrowed(name),
        Err(_) => Cow::Owned(format!("{} (not UTF-8)", name.escape_ascii())),
    }
}
