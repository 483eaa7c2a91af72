//! Keeps secrets out of snapshots.
//!
//! Of an environment only Felix's, Calico's and the datastore address variables are kept; values of names that look like
//! keys, tokens or passwords are blanked, wherever they stand. Lines keep their numbers, so that a finding's "line 4" is
//! line 4 of the file on the host too.

/// What stands in place of a secret.
pub const BLANK: &str = "***";

/// Variables kept besides `FELIX_*` and `CALICO_*`: where the datastore is, and who this node is.
const KEPT: [&str; 14] = [
    "DATASTORE_TYPE",
    "ETCD_ADDR",
    "ETCD_AUTHORITY",
    "ETCD_DISCOVERY_SRV",
    "ETCD_ENDPOINTS",
    "ETCD_SCHEME",
    "HOSTNAME",
    "K8S_API_ENDPOINT",
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "KUBERNETES_SERVICE_PORT_HTTPS",
    "NETWORKING_BACKEND",
    "NODENAME",
];

/// A process's environment (variables with a zero byte after each), with only what may be kept.
#[must_use]
pub fn environ(text: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for variable in text.split(|byte| *byte == 0) {
        let variable = String::from_utf8_lossy(variable);
        if let Some((name, value)) = variable.split_once('=')
            && is_kept(name)
        {
            kept.extend_from_slice(format!("{name}={}", clean_value(name, value)).as_bytes());
            kept.push(0);
        }
    }
    kept
}

/// An environment file, line by line. Lines of other variables and the text of comments become empty.
#[must_use]
pub fn env_file(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let mut lines: Vec<String> = Vec::new();
    let mut open: Option<Open> = None;
    for line in text.split('\n') {
        let (end, body) = split_return(line);
        let cleaned = match open.take() {
            Some(mut value) => {
                value.feed(body);
                let kept = if value.shown { clean_text(body) } else { String::new() };
                open = Some(value).filter(Open::goes_on);
                kept
            }
            None => {
                let (cleaned, value) = env_line(body);
                open = value.filter(Open::goes_on);
                cleaned
            }
        };
        lines.push(cleaned + end);
    }
    lines.join("\n").into_bytes()
}

/// `felix.cfg`: values of secret names and the text of comments become blank.
#[must_use]
pub fn settings(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let mut lines: Vec<String> = Vec::new();
    // what closes the secret value that is open
    let mut closing: Option<&str> = None;
    for line in text.split('\n') {
        let (end, body) = split_return(line);
        let cleaned = if let Some(mark) = closing {
            let closed = if mark == "\\" { !body.trim_end().ends_with('\\') } else { body.contains(mark) };
            if closed {
                closing = None;
            }
            String::new()
        } else if body.trim_start().starts_with(['#', ';']) {
            comment(body)
        } else if let Some(at) = body.find(['=', ':']) {
            let (name, value) = body.split_at(at);
            if looks_secret(name) && !is_path(value.get(1..).unwrap_or_default()) {
                closing = opened(value.get(1..).unwrap_or_default().trim());
                format!("{name}{} {BLANK}", value.get(..1).unwrap_or_default())
            } else {
                clean_text(body)
            }
        } else {
            clean_text(body)
        };
        lines.push(cleaned + end);
    }
    lines.join("\n").into_bytes()
}

/// A systemd unit: `Environment=` keeps what an environment may keep, and `NAME=VALUE` or `--name VALUE` of secret names
/// are blanked in every other line.
#[must_use]
pub fn unit(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let mut lines: Vec<String> = Vec::new();
    let (mut in_environment, mut blank_next) = (false, false);
    for line in text.split('\n') {
        let continued = lines.last().is_some_and(|last: &String| last.ends_with('\\'));
        let trimmed = line.trim_start();
        if !continued {
            in_environment = trimmed.starts_with("Environment=");
            blank_next = false;
        }
        // headers of `systemctl cat` are comments that matter
        let cleaned = if trimmed.starts_with("# /") {
            line.to_owned()
        } else if trimmed.starts_with(['#', ';']) {
            comment(line)
        } else {
            unit_line(line, in_environment, &mut blank_next)
        };
        lines.push(cleaned);
    }
    lines.join("\n").into_bytes()
}

/// A service's configuration: comments lose their words, and what stands behind a word that looks like a secret's name goes.
#[must_use]
pub fn configuration(text: &[u8]) -> Vec<u8> {
    kept_lines(text, |_| true)
}

/// A cron table, a script of cron, or a unit: only lines that run a tool of the firewall; the others are left blank, so that
/// lines keep their numbers.
#[must_use]
pub fn firewall_jobs(text: &[u8]) -> Vec<u8> {
    const TOOLS: [&str; 6] = ["firewall-cmd", "conntrack", "iptables", "ip6tables", "ipset", "ufw"];
    kept_lines(text, |line| {
        let mut words = line.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '=' | '/'));
        words.any(|word| TOOLS.contains(&word))
    })
}

/// A log shipper's configuration: only lines that may name a destination are kept, so that no value of another line, however
/// it is written, gets out.
#[must_use]
pub fn destinations(text: &[u8]) -> Vec<u8> {
    const KEYS: [&str; 36] = [
        "action(",
        "address",
        "bootstrap_servers",
        "destination",
        "endpoint",
        "endpoints",
        "hec_host",
        "host",
        "hostport",
        "hosts",
        "mode",
        "name",
        "network(",
        "opensearch",
        "port",
        "port(",
        "protocol",
        "remote_server",
        "server",
        "server-hostname",
        "server-ip",
        "servers",
        "syslog(",
        "target",
        "tcp(",
        "transport(",
        "udp(",
        "uri",
        "url",
        "urls",
        "admin_server",
        "kdc",
        "krb5_backup_server",
        "krb5_server",
        "ldap_backup_uri",
        "ldap_uri",
    ];
    kept_lines(text, |line| {
        let bare = line.trim_start_matches(['-', ' ', '"', '\'', '<', '/', '$']);
        let end = bare.find(['=', ':', ' ', '\t', '>', '"', '(']).unwrap_or(bare.len());
        let key = bare.get(..end).unwrap_or_default().to_ascii_lowercase();
        let whole = bare.get(..(end + 1).min(bare.len())).unwrap_or_default().to_ascii_lowercase();
        let section = line.starts_with('[') && line.ends_with(']')
            || line.starts_with('<')
            || matches!(line, "};" | "}" | ")" | ");" | "]");
        // an item of a list of destinations: host:port or a URL
        let item = (line.starts_with("- ") || line.starts_with('"'))
            && line.contains(':')
            && !line.contains(char::is_whitespace)
            || line.starts_with("- ")
                && bare
                    .rsplit(':')
                    .next()
                    .is_some_and(|port| port.trim_end_matches(['"', '\'']).parse::<u16>().is_ok());
        let named = KEYS.contains(&key.as_str()) || KEYS.contains(&whole.as_str());
        section
            || item
            || named
            || line.contains("omfwd")
            || line.contains("omrelp")
            || line.split_whitespace().nth(1).is_some_and(|word| word.starts_with('@'))
    })
}

fn kept_lines(text: &[u8], keep: impl Fn(&str) -> bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let clean = |line: &str| {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';', '!']) {
            return comment(line);
        }
        if !keep(trimmed) {
            return String::new();
        }
        clean_text(&until_secret(line))
    };
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n").into_bytes()
}

/// The line up to the end of the first word that looks like a secret's name; a path there is no secret.
fn until_secret(line: &str) -> String {
    let mut from = 0;
    for word in line.split(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))) {
        let at = from;
        from += word.len() + 1;
        if names_secret(word) {
            let rest = line.get(at + word.len()..).unwrap_or_default();
            let value = rest.trim_start_matches(['=', ':', ' ', '\t', '(']);
            if !value.is_empty() && !is_path(value) {
                return format!("{} {BLANK}", line.get(..at + word.len()).unwrap_or_default());
            }
        }
        // the separator may take more than a byte
        while !line.is_char_boundary(from.min(line.len())) {
            from += 1;
        }
    }
    line.to_owned()
}

/// Services have more words for secrets than Felix: `auth_pass`, `pwd`, `bindpw`, `ldap_default_authtok`.
fn names_secret(word: &str) -> bool {
    const MORE: [&str; 6] = ["pass", "pwd", "bindpw", "authtok", "community", "psk"];
    let lower = word.to_ascii_lowercase();
    looks_secret(word) || MORE.iter().any(|word| lower.contains(word))
}

/// A kubeconfig: only its structure, names and server addresses are kept.
#[must_use]
pub fn kubeconfig(text: &[u8]) -> Vec<u8> {
    const KEPT: [&str; 9] = [
        "apiVersion:",
        "cluster:",
        "clusters:",
        "context:",
        "contexts:",
        "current-context:",
        "kind:",
        "name:",
        "server:",
    ];
    let text = String::from_utf8_lossy(text);
    let clean = |line: &str| {
        let bare = line.trim().trim_start_matches("- ");
        if KEPT.iter().any(|key| bare.starts_with(key)) { clean_text(line) } else { String::new() }
    };
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n").into_bytes()
}

/// Splits at spaces outside quotes and cleans each word.
fn unit_line(line: &str, in_environment: bool, blank_next: &mut bool) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    if in_environment && let Some((key, value)) = line.split_once("Environment=") {
        out.push_str(key);
        out.push_str("Environment=");
        rest = value;
    }
    while !rest.is_empty() {
        let word = rest.get(..word_length(rest)).unwrap_or(rest);
        rest = rest.get(word.len()..).unwrap_or_default();
        if word.trim().is_empty() || word == "\\" {
            out.push_str(word);
            continue;
        }
        let quoted = ["\"", "'"].into_iter().find_map(|q| {
            let inner = word.strip_prefix(q)?.strip_suffix(q)?;
            Some((q, inner))
        });
        let (quote, inner) = quoted.unwrap_or(("", word));
        let cleaned = match inner.split_once('=') {
            _ if std::mem::take(blank_next) => BLANK.to_owned(),
            Some((name, _)) if in_environment && !is_kept(name) => format!("{name}={BLANK}"),
            Some((name, value)) => format!("{name}={}", clean_value(name, value)),
            None => {
                *blank_next = inner.starts_with('-') && looks_secret(inner);
                clean_text(inner)
            }
        };
        out.push_str(&format!("{quote}{cleaned}{quote}"));
    }
    out
}

/// Bytes up to the end of the first word, or of the first run of spaces.
fn word_length(text: &str) -> usize {
    let space = text.starts_with([' ', '\t']);
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if !space => quote = Some(c),
            (None, c) if matches!(c, ' ' | '\t') != space => return at,
            _ => {}
        }
    }
    text.len()
}

/// A value of an environment file that may go on in the next line.
struct Open {
    shown: bool,
    quote: Option<char>,
    escaped: bool,
}

impl Open {
    fn feed(&mut self, text: &str) {
        self.escaped = false;
        for c in text.chars() {
            match (self.escaped, self.quote, c) {
                (true, ..) => self.escaped = false,
                (false, quote, '\\') if quote != Some('\'') => self.escaped = true,
                (false, Some(open), c) if c == open => self.quote = None,
                (false, None, '"' | '\'') => self.quote = Some(c),
                _ => {}
            }
        }
    }

    fn goes_on(&self) -> bool {
        self.escaped || self.quote.is_some()
    }
}

fn env_line(line: &str) -> (String, Option<Open>) {
    let trimmed = line.trim_start();
    if trimmed.starts_with(['#', ';']) {
        return (comment(line), None);
    }
    let bare = trimmed.strip_prefix("export ").map_or(trimmed, str::trim_start);
    let Some((name, value)) = bare.split_once('=') else {
        // malformed; of interest only when it was meant for Felix
        let kept = if is_kept(bare) && !looks_secret(bare) { clean_text(line) } else { String::new() };
        return (kept, None);
    };
    let shown = is_kept(name.trim());
    let cleaned = clean_value(name, value);
    let blanked = cleaned == BLANK;
    let mut open = Open { shown: shown && !blanked, quote: None, escaped: false };
    open.feed(value);
    let before = line.get(..line.len() - value.len()).unwrap_or_default();
    (if shown { format!("{before}{cleaned}") } else { String::new() }, Some(open))
}

/// The sign stays, the words go.
fn comment(line: &str) -> String {
    line.chars().take_while(|c| c.is_whitespace()).chain(line.trim_start().chars().take(1)).collect()
}

fn split_return(line: &str) -> (&str, &str) {
    match line.strip_suffix('\r') {
        Some(body) => ("\r", body),
        None => ("", line),
    }
}

/// What ends the value of a felix.cfg line that is still open at its end.
fn opened(value: &str) -> Option<&'static str> {
    for mark in ["\"\"\"", "`"] {
        if let Some(rest) = value.strip_prefix(mark)
            && !rest.contains(mark)
        {
            return Some(mark);
        }
    }
    value.ends_with('\\').then_some("\\")
}

fn is_kept(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let upper = upper.trim();
    upper.starts_with("FELIX_") || upper.starts_with("CALICO_") || KEPT.contains(&upper)
}

fn looks_secret(name: &str) -> bool {
    const WORDS: [&str; 8] = ["passw", "passphrase", "secret", "token", "credential", "key", "private", "bearer"];
    let lower = name.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
}

/// The path of a key file tells where, not what.
fn is_path(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']);
    value.starts_with('/') && !value.contains(char::is_whitespace) && value.matches('/').count() > 1
}

fn clean_value(name: &str, value: &str) -> String {
    if looks_secret(name) && !value.is_empty() && !is_path(value) { BLANK.to_owned() } else { clean_text(value) }
}

/// Without what gives secrets away by itself: passwords in URLs, key material.
fn clean_text(text: &str) -> String {
    if text.contains("-----BEGIN") {
        return BLANK.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let authority = after.split(['/', ' ', '\t', ',', '"', '\'']).next().unwrap_or_default();
        rest = after;
        if let Some((_, host)) = authority.rsplit_once('@') {
            out.push_str(BLANK);
            out.push('@');
            rest = after.get(authority.len() - host.len()..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: Vec<u8>) -> Vec<String> {
        String::from_utf8(bytes).expect("text").split('\n').map(str::to_owned).collect()
    }

    #[test]
    fn an_environment_keeps_felix_and_blanks_secrets() {
        let text = b"PATH=/bin\0FELIX_FAILSAFEINBOUNDHOSTPORTS=tcp:22\0felix_etcdpassword=planted\0AWS_SECRET_ACCESS_KEY=planted\0\
            FELIX_ETCDKEYFILE=/etc/calico/key.pem\0ETCD_ENDPOINTS=https://root:planted@10.0.0.1:2379,http://u:planted@b\0CALICO_TOKEN=planted\0";
        let kept = String::from_utf8(environ(text)).expect("text");
        assert_eq!(
            kept,
            "FELIX_FAILSAFEINBOUNDHOSTPORTS=tcp:22\0felix_etcdpassword=***\0FELIX_ETCDKEYFILE=/etc/calico/key.pem\0\
             ETCD_ENDPOINTS=https://***@10.0.0.1:2379,http://***@b\0CALICO_TOKEN=***\0"
        );
    }

    #[test]
    fn an_environment_file_keeps_its_line_numbers() {
        let text = b"# password is planted\nDB_PASSWORD=\"planted\nplanted\"\nexport FELIX_A='b'\r\nFELIX_TOKEN=planted\\\n planted\n\
            OTHER=planted\nFELIX_LIST=\"tcp:22,\n tcp:80\"\nFELIX_BROKEN tcp:22\nplanted\n";
        assert_eq!(
            lines(env_file(text)),
            [
                "#",
                "",
                "",
                "export FELIX_A='b'\r",
                "FELIX_TOKEN=***",
                "",
                "",
                "FELIX_LIST=\"tcp:22,",
                " tcp:80\"",
                "FELIX_BROKEN tcp:22",
                "",
                ""
            ]
        );
    }

    #[test]
    fn a_settings_file_keeps_all_but_secrets() {
        let text = b"[global]\n; planted\nFailsafeInboundHostPorts = tcp:22 # ok\nEtcdPassword = planted\nSecretKey: \"\"\"planted\nplanted=1\n\"\"\"\n\
            Token = a\\\nplanted\nEtcdKeyFile = /etc/calico/key.pem\nEtcdAddr = http://u:planted@h:1\n";
        assert_eq!(
            lines(settings(text)),
            [
                "[global]",
                ";",
                "FailsafeInboundHostPorts = tcp:22 # ok",
                "EtcdPassword = ***",
                "SecretKey: ***",
                "",
                "",
                "Token = ***",
                "",
                "EtcdKeyFile = /etc/calico/key.pem",
                "EtcdAddr = http://***@h:1",
                ""
            ]
        );
    }

    #[test]
    fn a_unit_shows_its_commands_without_their_secrets() {
        let text = b"# /etc/systemd/system/calico.service\n# planted\n[Service]\nEnvironmentFile=/etc/calico/calico.env\n\
            Environment=FELIX_A=b \"DB=planted planted\" FELIX_PASSWORD=planted\n\
            ExecStart=/usr/bin/docker run -e FELIX_A=\"b c\" -e SECRET_KEY=planted --token planted \\\n  --password=planted \"img:1\"\n";
        assert_eq!(
            lines(unit(text)),
            [
                "# /etc/systemd/system/calico.service",
                "#",
                "[Service]",
                "EnvironmentFile=/etc/calico/calico.env",
                "Environment=FELIX_A=b \"DB=***\" FELIX_PASSWORD=***",
                "ExecStart=/usr/bin/docker run -e FELIX_A=\"b c\" -e SECRET_KEY=*** --token *** \\",
                "  --password=*** \"img:1\"",
                ""
            ]
        );
    }

    #[test]
    fn configurations_keep_peers_and_no_secret() {
        let text = b"# planted\nneighbor 10.0.0.1 password planted\n password \"planted\";\n keyfile /etc/chrony.keys\nserver 10.0.0.5 key planted\nPort 22\n\xc3\xbc secret=planted\n";
        assert_eq!(
            lines(configuration(text)),
            [
                "#",
                "neighbor 10.0.0.1 password ***",
                " password ***",
                " keyfile /etc/chrony.keys",
                "server 10.0.0.5 key ***",
                "Port 22",
                "\u{fc} secret ***",
                ""
            ]
        );
        let text = b"[OUTPUT]\n  Host 10.0.0.1\n  HTTP_Passwd planted\napi: |\n  planted\nurl: https://u:planted@h:1/x\naction(type=\"omelasticsearch\" pwd=\"x\" token=\"planted\")\n\
            *.* @@10.0.0.5:6514\n<key>planted</key>\n";
        let kept = String::from_utf8(destinations(text)).expect("text");
        assert!(!kept.contains("planted"), "{kept}");
        for words in ["[OUTPUT]", "Host 10.0.0.1", "https://***@h:1/x", "@@10.0.0.5:6514"] {
            assert!(kept.contains(words), "{words} in {kept}");
        }
        assert_eq!(kept.lines().count(), String::from_utf8_lossy(text).lines().count(), "lines keep their numbers");
        let text = b"auth_pass planted\naction(type=\"omelasticsearch\" server=\"h\" uid=\"u\" pwd=\"planted\")\n\
            ldap_default_authtok = planted\nbindpw planted\nldap_uri = ldaps://10.0.0.1\n";
        for kept in [configuration(text), destinations(text)] {
            let kept = String::from_utf8(kept).expect("text");
            assert!(!kept.contains("planted") && kept.contains("ldap_uri = ldaps://10.0.0.1"), "{kept}");
        }
        let text = b"clusters:\n- cluster:\n    certificate-authority-data: planted\n    server: https://10.0.0.9:6443\nusers:\n- name: a\n  user:\n    token: planted\n";
        let kept = String::from_utf8(kubeconfig(text)).expect("text");
        assert!(kept.contains("server: https://10.0.0.9:6443") && !kept.contains("planted"), "{kept}");
    }

    #[test]
    fn key_material_goes_whatever_its_name() {
        assert_eq!(environ(b"FELIX_X=-----BEGIN PRIVATE planted\0"), b"FELIX_X=***\0");
    }
}
