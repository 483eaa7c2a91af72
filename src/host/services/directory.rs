//! Directories and ticket servers: sssd, the LDAP client, nslcd, Kerberos.

use super::{Destination, host_and_port, lines};
use crate::packet::Protocol;

/// Servers that a file names: `URI ldaps://host`, `ldap_uri = …`, `krb5_server = host`, `kdc = host:port`.
#[must_use]
pub fn read(text: &str) -> Vec<Destination> {
    const LDAP: [&str; 4] = ["uri", "ldap_uri", "ldap_backup_uri", "host"];
    const KERBEROS: [&str; 4] = ["krb5_server", "krb5_backup_server", "kdc", "admin_server"];
    let mut found = Vec::new();
    for (line, content) in lines(text, &['#', ';']) {
        let Some((key, values)) = content.split_once(|c: char| c == '=' || c.is_whitespace()) else { continue };
        let key = key.trim().to_ascii_lowercase();
        for value in
            values.trim_start_matches(['=', ' ']).split([',', ' ']).map(str::trim).filter(|value| !value.is_empty())
        {
            let (usual, value) = match value.split_once("://") {
                Some(("ldaps", rest)) => (636, rest),
                Some(("ldap", rest)) => (389, rest),
                Some(_) => continue,
                None if KERBEROS.contains(&key.as_str()) => (if key == "admin_server" { 749 } else { 88 }, value),
                None => continue,
            };
            if !LDAP.contains(&key.as_str()) && !KERBEROS.contains(&key.as_str()) {
                continue;
            }
            let Some((peer, port)) = host_and_port(value.trim_end_matches('/')) else { continue };
            found.push(Destination { peer, protocol: Protocol::TCP, port: port.unwrap_or(usual), line });
        }
    }
    found.truncate(super::MAX_FOUND);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldap_and_kerberos_servers() {
        let text = "# URI ldap://x\nURI ldaps://10.0.0.1 ldap://10.0.0.2:3389/\nldap_uri = ldap://a.example, _srv_\nkdc = 10.0.0.3\nkrb5_server = b.example:89\nBASE dc=x\n";
        let shown: Vec<String> =
            read(text).iter().map(|one| format!("{} {} {}", one.line, one.peer, one.port)).collect();
        assert_eq!(shown, ["2 10.0.0.1 636", "2 10.0.0.2 3389", "3 a.example 389", "4 10.0.0.3 88", "5 b.example 89"]);
    }
}
