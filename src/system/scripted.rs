//! A host made of a table of answers, for tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Output, RunError, System};
use crate::ruleset::kernel::KernelTables;

/// Commands by their whole line, files by path; everything else does not exist.
#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) commands: BTreeMap<String, Output>,
    pub(crate) files: BTreeMap<PathBuf, Result<Vec<u8>, io::ErrorKind>>,
    pub(crate) links: BTreeMap<PathBuf, PathBuf>,
    /// Outputs of commands that say something else each time, before those of `commands`.
    pub(crate) once: RefCell<BTreeMap<String, Vec<Output>>>,
    /// What the kernel says of nf_tables at each look, the last one for good; none: it does not answer.
    pub(crate) kernel: RefCell<Vec<KernelTables>>,
    /// The rules of nf_tables never stand still.
    pub(crate) restless: bool,
    /// Command lines that were run.
    pub(crate) ran: RefCell<Vec<String>>,
}

impl Scripted {
    pub(crate) fn file(&mut self, path: &str, text: &str) {
        self.files.insert(path.into(), Ok(text.as_bytes().to_vec()));
    }

    pub(crate) fn denied(&mut self, path: &str) {
        self.files.insert(path.into(), Err(io::ErrorKind::PermissionDenied));
    }

    pub(crate) fn command(&mut self, line: &str, stdout: &str) {
        self.commands.insert(
            line.to_owned(),
            Output { status: Some(0), stdout: stdout.as_bytes().to_vec(), ..Output::default() },
        );
    }

    /// Before its lasting answer the command gives these, one after the other.
    pub(crate) fn says_first(&mut self, line: &str, outputs: &[&str]) {
        let outputs = outputs.iter().map(|text| Output {
            status: Some(0),
            stdout: text.as_bytes().to_vec(),
            ..Output::default()
        });
        self.once.borrow_mut().insert(line.to_owned(), outputs.collect());
    }

    pub(crate) fn fails(&mut self, line: &str, status: i32, stderr: &str) {
        self.commands
            .insert(line.to_owned(), Output { status: Some(status), stdout: Vec::new(), stderr: stderr.to_owned() });
    }
}

impl System for Scripted {
    fn run(&self, program: &str, arguments: &[&str], _limit: Duration) -> Result<Output, RunError> {
        let line = [&[program], arguments].concat().join(" ");
        self.ran.borrow_mut().push(line.clone());
        if let Some(next) = self.once.borrow_mut().get_mut(&line).filter(|all| !all.is_empty()) {
            return Ok(next.remove(0));
        }
        self.commands.get(&line).cloned().ok_or(RunError::NotInstalled)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.files.get(path) {
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(kind)) => Err((*kind).into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let all = self.files.keys().chain(self.links.keys());
        let mut found: Vec<PathBuf> = all
            .filter_map(|path| path.strip_prefix(folder).ok())
            .filter_map(|rest| rest.components().next())
            .map(|first| folder.join(first))
            .collect();
        found.sort();
        found.dedup();
        if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
    }

    fn link(&self, path: &Path) -> io::Result<PathBuf> {
        self.links.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn nf_tables(&self) -> io::Result<KernelTables> {
        let mut all = self.kernel.borrow_mut();
        match all.len() {
            0 if self.restless => Err(io::ErrorKind::Interrupted.into()),
            0 => Err(io::ErrorKind::Unsupported.into()),
            1 => Ok(all[0].clone()),
            _ => Ok(all.remove(0)),
        }
    }

    fn nf_generation(&self) -> io::Result<u32> {
        let all = self.kernel.borrow();
        all.first().map(|tables| tables.generation).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }
}
