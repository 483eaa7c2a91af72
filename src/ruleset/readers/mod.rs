//! Text of standard tools into the model. A reader never fails as a whole: it returns what it understood and says, line by
//! line, what it did not.

pub mod ipset_save;
pub mod iptables_save;
pub mod nft_json;
