//! Filters on the raw text of a packet line, so that most unwanted ones are never taken apart.

use std::net::IpAddr;

use memchr::memmem::Finder;

use super::felix::address;
use super::header::decimal;
use super::query::Filter;

/// What a filter on addresses and ports means for the text of a line.
pub(super) struct Skim<'q> {
    filter: &'q Filter,
    src: Finder<'static>,
    dst: Finder<'static>,
    src_port: Finder<'static>,
    dst_port: Finder<'static>,
}

impl<'q> Skim<'q> {
    /// The skim of a filter.
    pub(super) fn new(filter: &'q Filter) -> Self {
        let [src, dst, src_port, dst_port] = [&b"SRC="[..], b"DST=", b"SPT=", b"DPT="].map(Finder::new);
        Self { filter, src, dst, src_port, dst_port }
    }

    /// Whether the filter asks for any of this.
    pub(super) fn asks(&self) -> bool {
        let Filter { src_ip, dst_ip, src_port, dst_port, .. } = self.filter;
        !(src_ip.is_empty() && dst_ip.is_empty() && src_port.is_empty() && dst_port.is_empty())
    }

    /// Whether a packet line may be wanted. Every value that the reader could take for the field is tried (there are
    /// several in a line that quotes a packet), so that a line is never lost here; the filter itself has the last word.
    pub(super) fn may_be_wanted(&self, line: &[u8]) -> bool {
        let Filter { src_ip, dst_ip, src_port, dst_port, .. } = self.filter;
        let ip = |key: &Finder<'_>, wanted: &dyn Fn(IpAddr) -> bool| {
            values(key, line).any(|value| address(value).is_some_and(wanted))
        };
        let port = |key: &Finder<'_>, wanted: &dyn Fn(u16) -> bool| {
            values(key, line).any(|value| decimal(value).and_then(|port| u16::try_from(port).ok()).is_some_and(wanted))
        };
        (dst_port.is_empty() || port(&self.dst_port, &|port| dst_port.iter().any(|range| range.contains(port))))
            && (src_ip.is_empty() || ip(&self.src, &|ip| src_ip.iter().any(|prefix| prefix.contains(ip))))
            && (dst_ip.is_empty() || ip(&self.dst, &|ip| dst_ip.iter().any(|prefix| prefix.contains(ip))))
            && (src_port.is_empty() || port(&self.src_port, &|port| src_port.iter().any(|range| range.contains(port))))
    }
}

/// What follows each occurrence of a key, as far as it can belong to an address or number.
fn values<'l>(key: &Finder<'_>, line: &'l [u8]) -> impl Iterator<Item = &'l [u8]> {
    let length = key.needle().len();
    key.find_iter(line).filter_map(move |at| {
        let value = line.get(at + length..)?;
        let belongs = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        value.get(..value.iter().take_while(|byte| belongs(byte)).count())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::PortRange;

    #[test]
    fn no_line_that_the_filter_wants_is_skimmed_off() {
        let src_ip = vec!["10.0.1.10/32".parse().expect("an address")];
        let filter = Filter { src_ip, dst_port: vec![PortRange::single(443)], ..Filter::default() };
        let skim = Skim::new(&filter);
        for (line, expected) in [
            ("k: IN=eth0 OUT= SRC=10.0.1.10 DST=1.1.1.1 PROTO=TCP SPT=1 DPT=443", true),
            ("k: IN=eth0 OUT= SRC=10.0.1.10 DST=1.1.1.1 PROTO=TCP SPT=1 DPT=443]", true),
            ("k: IN=eth0 OUT= SRC=0000:0000:0000:0000:0000:ffff:0a00:010a DST=:: PROTO=TCP DPT=443\r", true),
            ("k: IN=eth0 OUT= SRC=10.0.1.100 DST=10.0.1.10 PROTO=TCP SPT=443 DPT=443", false),
            ("k: IN=eth0 OUT= SRC=10.0.1.10 DST=1.1.1.1 PROTO=TCP SPT=443 DPT=4430", false),
            ("k: IN=eth0 OUT= SRC=10.0.1.10 DST=1.1.1.1 PROTO=ICMP TYPE=8", false),
            ("k: IN=a OUT= SRC=1.1.1.1 PROTO=ICMP TYPE=3 [SRC=10.0.1.10 DST=1.1.1.1 PROTO=TCP DPT=443 ]", true),
        ] {
            assert_eq!(skim.may_be_wanted(line.as_bytes()), expected, "{line}");
        }
        assert!(Skim::new(&Filter::default()).may_be_wanted(b"anything"));
    }
}
