//! Private file systems: the host's files to read, a memory file system for what is written.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

/// Where the written parts of overlays are; below the private `/run`.
const UPPER: &str = "/run/.written";

/// Most file systems that are overlaid one by one.
const MAX_MOUNTS: usize = 256;

/// Files of `/run` that resolvers need.
const RUN: [&str; 3] =
    ["/run/systemd/resolve/resolv.conf", "/run/systemd/resolve/stub-resolv.conf", "/run/resolvconf/resolv.conf"];

/// Devices without effect on anything else.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

const NONE: Option<&str> = None;

/// Gives the calling thread, whose mounts are already its own, private file systems. Gives back remarks.
///
/// # Errors
/// When what must be private cannot be made so.
pub(super) fn isolate() -> Result<Vec<String>, String> {
    let must = |what: &str, result: nix::Result<()>| {
        result.map_err(|error| format!("{what} cannot be made private for the copy: {error}"))
    };
    must("the file systems", mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE))?;
    let kept: Vec<(&str, Vec<u8>)> = RUN.iter().filter_map(|path| Some((*path, fs::read(path).ok()?))).collect();
    let places = places()?;
    let devices: Vec<(&str, File)> =
        DEVICES.iter().filter_map(|name| Some((*name, File::open(Path::new("/dev").join(name)).ok()?))).collect();

    must(
        "/run",
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755,size=256m")),
    )?;
    for (path, bytes) in kept {
        let _ = Path::new(path).parent().map(fs::create_dir_all);
        let _ = fs::write(path, bytes);
    }
    let mut notes = Vec::new();
    for (number, place) in places.iter().enumerate() {
        if let Err(error) = overlay(place, number) {
            must(&place.path.display().to_string(), read_only(place))?;
            notes.push(format!("{} is read-only for the command (no overlay there: {error})", place.path.display()));
        }
    }
    must("/dev", make_devices(&devices))?;
    let sys = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    must("/sys", mount(Some("sysfs"), "/sys", Some("sysfs"), sys, NONE))?;
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    must("/", mount(NONE, "/", NONE, again, NONE))?;
    Ok(notes)
}

/// A folder (or file) to be made private, held open so that it can be found when something lies over it.
struct Place {
    path: PathBuf,
    handle: File,
    folder: bool,
}

/// Top-level folders and everything mounted below them, outer ones first.
fn places() -> Result<Vec<Place>, String> {
    let own = ["/proc", "/sys", "/dev", "/run"];
    let below_own = |path: &Path| own.iter().any(|own| path.starts_with(own));
    let top = fs::read_dir("/").map_err(|error| format!("cannot list /: {error}"))?;
    let mut paths: Vec<PathBuf> = top
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| !below_own(path))
        .collect();
    paths.sort();
    let table =
        fs::read_to_string("/proc/thread-self/mountinfo").map_err(|error| format!("cannot read mountinfo: {error}"))?;
    let mut mounted: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| Some(PathBuf::from(unescape(line.split(' ').nth(4)?))))
        .filter(|path| path != Path::new("/") && !below_own(path) && !paths.contains(path))
        .collect();
    mounted.sort();
    mounted.dedup();
    if mounted.len() > MAX_MOUNTS {
        return Err(format!(
            "{} file systems are mounted here; more than {MAX_MOUNTS} are not made private",
            mounted.len()
        ));
    }
    paths.extend(mounted);
    let open = |path: PathBuf| {
        let handle = File::open(&path).ok()?;
        let folder = handle.metadata().ok()?.is_dir();
        Some(Place { path, handle, folder })
    };
    Ok(paths.into_iter().filter_map(open).collect())
}

/// mountinfo writes blanks and the like as `\040`.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

fn handle(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn overlay(place: &Place, number: usize) -> Result<(), String> {
    if !place.folder {
        return Err("it is a file".to_owned());
    }
    let (upper, work) = (format!("{UPPER}/{number}/upper"), format!("{UPPER}/{number}/work"));
    for folder in [&upper, &work] {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|error| error.to_string())?;
    }
    // the new top has the rights of the old one
    if let Ok(metadata) = place.handle.metadata() {
        use std::os::unix::fs::MetadataExt as _;
        let _ = fs::set_permissions(&upper, metadata.permissions());
        let _ = std::os::unix::fs::chown(&upper, Some(metadata.uid()), Some(metadata.gid()));
    }
    let options = format!("lowerdir={},upperdir={upper},workdir={work}", handle(&place.handle));
    mount(Some("overlay"), &place.path, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))
        .map_err(|error| error.to_string())
}

fn read_only(place: &Place) -> nix::Result<()> {
    mount(Some(handle(&place.handle).as_str()), &place.path, NONE, MsFlags::MS_BIND, NONE)?;
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(NONE, &place.path, NONE, again, NONE)
}

fn make_devices(devices: &[(&str, File)]) -> nix::Result<()> {
    mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some("mode=755,size=4m"))?;
    for (name, file) in devices {
        let path = Path::new("/dev").join(name);
        // an empty file to mount the device on
        if File::create(&path).is_ok() {
            mount(Some(handle(file).as_str()), &path, NONE, MsFlags::MS_BIND, NONE)?;
        }
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let _ = symlink(target, Path::new("/dev").join(name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn blanks_in_mount_points_are_read() {
        assert_eq!(super::unescape("/mnt/a\\040b\\134c"), "/mnt/a b\\c");
        assert_eq!(super::unescape("/mnt/x\\"), "/mnt/x\\");
    }
}
