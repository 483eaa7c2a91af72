//! The field's words: addresses, protocols, conntrack states, hooks, interfaces and the packet itself.
//!
//! Everything here is a plain value with a text form; nothing knows about rules. Numbers are host byte order.

mod address;
mod conntrack;
mod details;
mod hook;
mod interface;
#[expect(clippy::module_inception, reason = "the packet is the word this room is named after")]
mod packet;
mod protocol;
pub mod text;

pub use address::{Prefix, PrefixError, address_bits};
pub use conntrack::{CtDirection, CtState, CtStatus};
pub use details::{Details, ExtensionHeader};
pub use hook::{Family, Hook};
pub use interface::{InterfacePattern, MAX_INTERFACE_NAME};
pub use packet::{ConntrackView, Direction, Packet, PacketType, Tuple};
pub use protocol::{PortRange, Protocol, TcpFlags};
