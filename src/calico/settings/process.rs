//! Which processes are Felix.

/// Whether a process is Felix, by the last part of its executable's or first argument's path and its arguments (without the
/// program's name), as `/proc/PID/cmdline` has them: `calico-felix …`, `calico-node -felix`, `cnx-node -felix`. The other
/// tasks of those binaries (`-confd`, `-monitor-addresses`, …) and supervisors that only name Felix are not.
#[must_use]
pub fn is_felix(program: &str, arguments: &[&str]) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    match name {
        "calico-felix" | "cnx-felix" => {
            !arguments.iter().any(|argument| matches!(*argument, "--version" | "--help" | "-h"))
        }
        "calico-node" | "cnx-node" => arguments.iter().any(|argument| {
            // Go's flag package takes one dash or two, and a value behind `=`
            let flag = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')).unwrap_or_default();
            flag == "felix"
                || flag.strip_prefix("felix=").is_some_and(|value| matches!(value, "true" | "1" | "t" | "T"))
        }),
        _ => false,
    }
}

/// [`is_felix`] for the bytes of `/proc/PID/cmdline`: NUL-separated arguments, the program first.
#[must_use]
pub fn is_felix_cmdline(cmdline: &[u8]) -> bool {
    let text = String::from_utf8_lossy(cmdline);
    let mut words = text.split('\0');
    let program = words.next().unwrap_or_default();
    // a command line is at most 2 MiB; Felix's flag is among the first few words
    let arguments: Vec<&str> = words.take(64).collect();
    is_felix(program, &arguments)
}

/// Unit names under which Felix is usually installed, the likeliest first.
pub const UNITS: [&str; 4] = ["calico-felix.service", "calico.service", "calico-node.service", "cnx-node.service"];

/// Where Felix's environment file usually is; `FELIX_…` lines of any of them count when the unit names it.
pub const ENVIRONMENT_FILES: [&str; 3] =
    ["/etc/calico/calico.env", "/etc/default/calico-felix", "/etc/calico/felix.env"];

/// Felix's own configuration file, when it is not told another one (`-c`).
pub const CONFIG_FILE: &str = "/etc/calico/felix.cfg";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn felix_under_its_names() {
        for yes in [
            "calico-felix\0",
            "/usr/bin/calico-felix\0-c\0/etc/calico/felix.cfg\0",
            "/usr/local/bin/cnx-node\0-felix\0",
            "calico-node\0-felix\0",
            "calico-node\0--felix\0",
            "calico-node\0-felix=true\0",
        ] {
            assert!(is_felix_cmdline(yes.as_bytes()), "{yes:?}");
        }
    }

    #[test]
    fn others_are_not_felix() {
        for no in [
            "calico-node\0-confd\0",
            "calico-node\0-felix=false\0",
            "/bin/sh\0-c\0calico-node -felix\0",
            "runsv\0felix\0",
            "vim\0/etc/calico/felix.cfg\0",
            "calico-felix\0--version\0",
            "",
        ] {
            assert!(!is_felix_cmdline(no.as_bytes()), "{no:?}");
        }
        assert!(!is_felix_cmdline(&[0xff; 100]));
    }
}
