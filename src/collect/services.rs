//! What points to flows that must work: who calls, how services are configured, what is mounted, which machine this is.
//!
//! Of configurations only what names a peer, a port or a switch is kept (`secrets::configuration`, `secrets::destinations`).

use std::path::{Path, PathBuf};

use super::{LIMIT, Live, as_is};
use crate::files::FileState;
use crate::snapshot::secrets;

type Clean = fn(&[u8]) -> Vec<u8>;

/// Single files, below `/`, saved under the same path.
const FILES: [(&str, Clean); 34] = [
    ("etc/hosts", as_is),
    ("etc/crontab", secrets::firewall_jobs),
    ("etc/ssh/ssh_config", secrets::configuration),
    ("etc/adjtime", as_is),
    ("etc/ssh/sshd_config", secrets::configuration),
    ("etc/chrony/chrony.conf", secrets::configuration),
    ("etc/chrony.conf", secrets::configuration),
    ("etc/ntp.conf", secrets::configuration),
    ("etc/ntpsec/ntp.conf", secrets::configuration),
    ("etc/systemd/timesyncd.conf", secrets::configuration),
    ("etc/systemd/resolved.conf", secrets::configuration),
    ("etc/systemd/journal-upload.conf", secrets::destinations),
    ("etc/dnsmasq.conf", secrets::configuration),
    ("etc/unbound/unbound.conf", secrets::configuration),
    ("etc/bird/bird.conf", secrets::configuration),
    ("etc/bird.conf", secrets::configuration),
    ("etc/frr/frr.conf", secrets::configuration),
    ("etc/rsyslog.conf", secrets::destinations),
    ("etc/syslog-ng/syslog-ng.conf", secrets::destinations),
    ("etc/fluent-bit/fluent-bit.conf", secrets::destinations),
    ("etc/td-agent-bit/td-agent-bit.conf", secrets::destinations),
    ("etc/vector/vector.toml", secrets::destinations),
    ("etc/vector/vector.yaml", secrets::destinations),
    ("etc/filebeat/filebeat.yml", secrets::destinations),
    ("etc/promtail/config.yml", secrets::destinations),
    ("etc/audit/audisp-remote.conf", secrets::destinations),
    ("etc/falcosidekick/config.yaml", secrets::destinations),
    ("etc/fail2ban/jail.local", secrets::configuration),
    ("etc/keepalived/keepalived.conf", secrets::configuration),
    ("etc/ldap/ldap.conf", secrets::destinations),
    ("etc/openldap/ldap.conf", secrets::destinations),
    ("etc/nslcd.conf", secrets::destinations),
    ("etc/krb5.conf", secrets::destinations),
    ("etc/sssd/sssd.conf", secrets::destinations),
];

/// Folders: every file with the ending is taken.
const FOLDERS: [(&str, &str, Clean); 17] = [
    ("etc/ssh/ssh_config.d", "conf", secrets::configuration),
    ("etc/cron.d", "", secrets::firewall_jobs),
    ("etc/cron.hourly", "", secrets::firewall_jobs),
    ("etc/cron.daily", "", secrets::firewall_jobs),
    ("etc/cron.weekly", "", secrets::firewall_jobs),
    ("etc/cron.monthly", "", secrets::firewall_jobs),
    ("etc/systemd/system", "service", secrets::firewall_jobs),
    ("etc/ssh/sshd_config.d", "conf", secrets::configuration),
    ("etc/chrony/conf.d", "conf", secrets::configuration),
    ("etc/chrony/sources.d", "sources", secrets::configuration),
    ("etc/systemd/timesyncd.conf.d", "conf", secrets::configuration),
    ("etc/systemd/resolved.conf.d", "conf", secrets::configuration),
    ("etc/dnsmasq.d", "conf", secrets::configuration),
    ("etc/unbound/unbound.conf.d", "conf", secrets::configuration),
    ("etc/bird", "conf", secrets::configuration),
    ("etc/rsyslog.d", "conf", secrets::destinations),
    ("etc/syslog-ng/conf.d", "conf", secrets::destinations),
];

/// Units whose text says what they listen on or load.
const UNITS: [&str; 2] = ["ssh.socket", "sshd.socket"];

/// Of `/sys/class/dmi/id`: what tells a cloud. Serial numbers stay on the host.
const FIRMWARE: [&str; 5] = ["sys_vendor", "product_name", "bios_vendor", "board_vendor", "chassis_asset_tag"];

/// How many parents are asked for the SSH session; sudo, a shell and a multiplexer fit in.
const MAX_PARENTS: usize = 16;

impl Live<'_> {
    pub(super) fn services(&mut self) {
        for (name, clean) in FILES {
            let state = self.file(Path::new("/").join(name), clean);
            if state != FileState::Absent {
                self.put(name, state);
            }
        }
        for (folder, ending, clean) in FOLDERS {
            self.take_folder(&format!("/{folder}"), ending, folder, clean);
        }
        // of jobs that have nothing to do with the firewall nothing is left
        self.found.files.retain(|name, state| {
            let is_job = name.starts_with("etc/cron") || name.starts_with("etc/systemd/system/");
            !is_job || !matches!(state, FileState::Present(bytes) if says_nothing(bytes))
        });
        let ossec = self.file("/var/ossec/etc/ossec.conf", secrets::destinations);
        if ossec != FileState::Absent {
            self.put("etc/ossec/ossec.conf", ossec);
        }
        self.units();
        self.caller();
        self.machine();
        self.kubeconfig();
        let mounts = self.file("/proc/self/mounts", network_mounts);
        self.put("mounts.txt", mounts);
        // by its Unix socket alone: without it chronyc would send packets to itself
        let socket = ["-h", "/run/chrony/chronyd.sock", "-c", "-n", "sources"];
        if let Ok(output) = self.system.run("chronyc", &socket, super::SOON)
            && output.status == Some(0)
        {
            self.put("time-sources.txt", FileState::Present(output.stdout));
        }
        self.iscsi();
    }

    /// Socket units that are on, and which units boot starts.
    fn units(&mut self) {
        let on = |name: &str| {
            let answer = self.system.run("systemctl", &["is-active", "--quiet", name], super::SOON);
            answer.is_ok_and(|output| output.status == Some(0))
        };
        let active: Vec<&str> = UNITS.into_iter().filter(|name| on(name)).collect();
        for name in active {
            if let Ok(output) = self.system.run("systemctl", &["cat", "--no-pager", name], LIMIT)
                && output.status == Some(0)
            {
                self.put(format!("units/{name}"), FileState::Present(secrets::unit(&output.stdout)));
            }
        }
        let list = ["list-unit-files", "--no-pager", "--no-legend", "--type=service,socket,timer"];
        if let Ok(output) = self.system.run("systemctl", &list, LIMIT)
            && output.status == Some(0)
        {
            self.put("units/list.txt", FileState::Present(output.stdout));
        }
    }

    /// `SSH_CONNECTION` of this process or, behind sudo, of the nearest parent that has it.
    fn caller(&mut self) {
        let mut process = PathBuf::from("/proc/self");
        let mut text = String::new();
        for _ in 0..MAX_PARENTS {
            let environ = self.system.read(&process.join("environ")).unwrap_or_default();
            let variable = environ.split(|byte| *byte == 0).find(|one| one.starts_with(b"SSH_CONNECTION="));
            if let Some(variable) = variable {
                text = format!("{}\n", String::from_utf8_lossy(variable));
                break;
            }
            let status = self.system.read(&process.join("status")).unwrap_or_default();
            let status = String::from_utf8_lossy(&status).into_owned();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok());
            match parent {
                Some(parent) if parent > 1 => process = PathBuf::from(format!("/proc/{parent}")),
                _ => break,
            }
        }
        if !text.is_empty() {
            self.put("caller.txt", FileState::Present(text.into_bytes()));
        }
        if let Ok(output) = self.system.run("who", &["--ips"], super::SOON)
            && output.status == Some(0)
        {
            self.put("who.txt", FileState::Present(output.stdout));
        }
    }

    fn machine(&mut self) {
        let mut text = String::new();
        for name in FIRMWARE {
            let Ok(value) = self.system.read(&Path::new("/sys/class/dmi/id").join(name)) else { continue };
            text.push_str(&format!("{name}={}\n", String::from_utf8_lossy(&value).trim()));
        }
        if !text.is_empty() {
            self.put("dmi.txt", FileState::Present(text.into_bytes()));
        }
    }

    /// The server lines of the file that Felix's environment names.
    fn kubeconfig(&mut self) {
        let mut path = None;
        for name in ["felix/environ", "felix/calico.env"] {
            let Some(FileState::Present(bytes)) = self.found.files.get(name) else { continue };
            let text = String::from_utf8_lossy(bytes).into_owned();
            let found = text.split(['\0', '\n']).find_map(|line| line.trim().strip_prefix("KUBECONFIG="));
            path = path.or_else(|| found.map(|value| value.trim_matches('"').to_owned()));
        }
        if let Some(path) = path.filter(|path| path.starts_with('/')) {
            let state = self.file(path, secrets::kubeconfig);
            self.put("felix/kubeconfig", state);
        }
    }

    fn iscsi(&mut self) {
        let mut text = String::new();
        for connection in self.system.list(Path::new("/sys/class/iscsi_connection")).unwrap_or_default() {
            let read = |name: &str| self.system.read(&connection.join(name)).ok();
            let (Some(address), Some(port)) = (read("persistent_address"), read("persistent_port")) else { continue };
            let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            text.push_str(&format!("{} {}\n", word(&address), word(&port)));
        }
        if !text.is_empty() {
            self.put("iscsi.txt", FileState::Present(text.into_bytes()));
        }
    }
}

/// Blank lines and comments alone.
fn says_nothing(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#'))
}

/// Of a mount table only file systems that live elsewhere, without their credentials.
fn network_mounts(bytes: &[u8]) -> Vec<u8> {
    const KINDS: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.glusterfs"];
    let text = String::from_utf8_lossy(bytes);
    let network = |line: &&str| line.split(' ').nth(2).is_some_and(|kind| KINDS.contains(&kind));
    let plain = |line: &str| -> String {
        let secret = |option: &&str| {
            !["username=", "user=", "password=", "pass=", "secret=", "name=", "domain="]
                .iter()
                .any(|key| option.starts_with(key))
        };
        let words = line.split(' ').map(|word| word.split(',').filter(secret).collect::<Vec<_>>().join(","));
        words.collect::<Vec<_>>().join(" ") + "\n"
    };
    text.lines().filter(network).map(plain).collect::<String>().into_bytes()
}
