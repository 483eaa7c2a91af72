//! `hepguard plan`: dry-run a change, and say what it cuts.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::args::{Common, FelixAction, PlanArgs};
use super::exit::{CliError, Outcome};
use crate::analysis::reboot::loaders;
use crate::audit::finding::Severity;
use crate::calico::names::Authors;
use crate::calico::predict::{Knowledge, Situation, predict};
use crate::calico::resources::{Kind, Problem, Resources};
use crate::files::SnapshotFiles;
use crate::plan::change::Setting;
use crate::plan::offline::offline;
use crate::plan::{Failure, Plan, Rehearsal, Verdict, plan};
use crate::report;
use crate::scratch::boot::{boot, restore_tool};
use crate::scratch::{self, Ended, Step};
use crate::snapshot::{self, Snapshot};

/// Largest file of a change: 64 MiB.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Runs the command.
///
/// # Errors
/// When the change cannot be made at all, no snapshot can be had, or the format is unknown.
pub fn run(common: &Common, args: &PlanArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !FORMATS.contains(&common.format.as_str()) {
        return Err(super::unknown_format(&common.format, &FORMATS));
    }
    let settings = settings(args)?;
    let mut steps = steps(args)?;
    let resources = !args.resources.is_empty() || !args.delete.is_empty() || args.enforce_staged;
    if settings.is_empty() && args.felix.is_none() && steps.is_empty() && !resources && !args.reboot {
        return Err(CliError::Usage(
            "no change was given; expected for example -f policy.yaml, --felix-env FILE, --set NAME=VALUE, --iptables-restore FILE, \
             --felix restart, --reboot or -- COMMAND (see --help)"
                .to_owned(),
        ));
    }

    let mut before = super::load::snapshot(common)?;
    let mut known = Knowledge::running(&before.files);
    if let Some(folder) = &args.policies {
        known.resources = read(std::slice::from_ref(folder))?;
        before.authors = Arc::new(Authors::of(&known.resources));
    }
    let mut told = Rehearsal::default();
    if let Some(offline) = offline(&before, &known) {
        before = offline.before;
        told.notes = offline.notes;
        told.not_copied = offline.unknown.into_iter().map(|what| format!("not known: {what}")).collect();
        if !steps.is_empty() {
            told.not_copied.push("rules that are rendered are not in the copy in which commands run".to_owned());
        }
    }
    if common.snapshot.is_some() {
        // which variant the host uses, its listings tell
        let restores = steps.iter_mut().filter_map(|step| step.command.first_mut());
        for program in restores.filter(|program| *program == "iptables-restore" || *program == "ip6tables-restore") {
            *program = restore_tool(&before.files, &program.to_string_lossy(), false).into();
        }
    }
    let rehearsal = rehearse(common, (&before, &known), &settings, &steps, args, told)?;
    let plan = plan(&before, &rehearsal);
    print(common, &plan, out)?;
    Ok(outcome(common, &plan))
}

const FORMATS: [&str; 5] = ["text", "json", "sarif", "markdown", "junit"];

/// Makes the change on a copy; `told` is what is said already of how the host before it is known.
fn rehearse(
    common: &Common,
    (before, known): (&Snapshot, &Knowledge),
    settings: &[Setting],
    steps: &[Step],
    args: &PlanArgs,
    told: Rehearsal,
) -> Result<Rehearsal, CliError> {
    let mut rehearsal = Rehearsal { after: before.clone(), ..told };
    let mut files = before.files.clone();
    if !steps.is_empty() {
        files = in_scratch(common, before, steps, args, &mut rehearsal)?;
    }
    for setting in settings {
        setting.apply(&mut files).map_err(CliError::Input)?;
        rehearsal.parts.push(setting.describe());
        rehearsal.restarts_felix = true;
    }
    match args.felix {
        Some(FelixAction::Restart) => {
            rehearsal.parts.push("Felix restarts".to_owned());
            rehearsal.restarts_felix = true;
        }
        Some(FelixAction::Stop) => {
            rehearsal.parts.push("Felix stops".to_owned());
            rehearsal.restarts_felix = false;
            rehearsal.notes.push(
                "Felix leaves its rules in the kernel when it stops: they decide as before, but changes of policy and of IP \
                 sets' members reach them no more"
                    .to_owned(),
            );
        }
        None => {}
    }
    if files != before.files {
        rehearsal.after =
            Snapshot { protect: before.protect.clone(), outputs: before.outputs.clone(), ..snapshot::read(files) };
        if before.rendered {
            rehearsal.after.ruleset.clone_from(&before.ruleset);
            rehearsal.after.rendered = true;
        }
    }
    rehearsal.restarts_felix |= args.reboot;
    calico(before, known, args, &mut rehearsal)?;
    if args.reboot {
        reboot(common, args, &mut rehearsal);
    }
    Ok(rehearsal)
}

/// The host boots after all else of the change.
fn reboot(common: &Common, args: &PlanArgs, rehearsal: &mut Rehearsal) {
    rehearsal.parts.push("the host boots with what is persisted".to_owned());
    rehearsal.reboots = true;
    let (loaders, by_programs) = loaders(&rehearsal.after.files);
    let mut units: Vec<&str> = loaders.iter().map(|loader| loader.unit).collect();
    units.dedup();
    if units.len() > 1 {
        rehearsal.notes.push(format!("these units start in no certain order; taken is {}", units.join(", ")));
    }
    if !by_programs {
        return;
    }
    match boot(&rehearsal.after, common.snapshot.is_none(), Duration::from_secs(args.timeout)) {
        Ok(tried) => {
            rehearsal.after.booted = Some(tried.booted);
            rehearsal.not_copied.extend(tried.not_copied);
            rehearsal.notes.push("what boot loads was loaded in a private copy of the host".to_owned());
            rehearsal.failures.extend(tried.failed.into_iter().map(|done| {
                let said = if done.said.is_empty() { "it said nothing" } else { &done.said };
                Failure { part: done.name.clone(), how: format!("{}: {said}", done.ended), partial: done.changed }
            }));
        }
        Err(why) => rehearsal.notes.push(format!("what boot loads was not tried out: {why}")),
    }
}

/// Foretells the rules that Felix writes once resources and settings have changed. The failsafe lists are not among them:
/// what a restart makes of those is a world of its own.
fn calico(before: &Snapshot, known: &Knowledge, args: &PlanArgs, rehearsal: &mut Rehearsal) -> Result<(), CliError> {
    let mut wanted = known.clone();
    let change = read(&args.resources)?;
    let titles: Vec<String> = change.iter().map(|resource| resource.meta.title()).collect();
    if !args.resources.is_empty() && change.is_empty() {
        let why = change.problems.first().map_or_else(|| "expected YAML or JSON of Calico".to_owned(), Problem::text);
        return Err(CliError::Input(format!("no Calico resource is in the files of the change: {why}")));
    }
    if let Some(refused) = change.problems.iter().find(|problem| problem.refused) {
        return Err(CliError::Input(format!("{} (hepguard lint tells all)", refused.text())));
    }
    rehearsal.notes.extend(change.problems.iter().take(MAX_PROBLEMS).map(Problem::text));
    if change.iter().any(|resource| resource.meta.kind == Kind::FelixConfiguration) {
        // Felix restarts by itself when the datastore's settings change
        rehearsal.not_copied.push(
            "the settings of a FelixConfiguration among the resources are not followed: plan them with --set NAME=VALUE".to_owned(),
        );
    }
    let replaced = wanted.resources.apply(&change);
    for title in titles {
        let verb = if replaced.contains(&title) { "is replaced" } else { "is created" };
        rehearsal.parts.push(format!("{title} {verb}"));
    }
    for word in &args.delete {
        let gone = wanted.resources.delete(word).map_err(|error| {
            CliError::Input(format!(
                "--delete {error}; resources in force are read from --policies DIR or the snapshot"
            ))
        })?;
        rehearsal.parts.push(format!("{} is deleted", gone.meta.title()));
    }
    if args.enforce_staged {
        let enforced = wanted.resources.enforce_staged();
        if enforced.is_empty() {
            let why = "--enforce-staged: no staged policy of hosts is in the change, --policies DIR or the snapshot";
            return Err(CliError::Input(why.to_owned()));
        }
        rehearsal.parts.extend(enforced);
    } else {
        let staged = change.iter().filter(|resource| resource.meta.kind.enforced().is_some());
        rehearsal.notes.extend(staged.map(|resource| {
            let title = resource.meta.title();
            format!("{title} is staged and decides nothing; --enforce-staged plans it as if it were enforced")
        }));
    }
    wanted.keeps_lists = true;
    if rehearsal.restarts_felix {
        wanted.settings = Knowledge::of(&rehearsal.after.files).settings;
    }
    let beyond = wanted.beyond_the_model(known).into_iter();
    rehearsal.not_copied.extend(beyond.map(|what| format!("what {what} makes of Felix's rules is not modelled")));
    let resources = !args.resources.is_empty() || !args.delete.is_empty() || args.enforce_staged;
    if resources || args.policies.is_some() {
        rehearsal.after.authors = Arc::new(Authors::of(&wanted.resources));
    }
    if !resources && !wanted.shapes_otherwise(known) {
        return Ok(());
    }
    let situation = Situation { ruleset: &rehearsal.after.ruleset, host: &before.host, known };
    let foretold = predict(&situation, &wanted);
    rehearsal.after.ruleset = foretold.ruleset;
    rehearsal.not_copied.extend(foretold.unknown.into_iter().map(|what| format!("not known: {what}")));
    rehearsal.notes.extend(foretold.notes);
    rehearsal.rendered = Some(foretold.fidelity);
    Ok(())
}

/// Most remarks about the change's files that are told.
const MAX_PROBLEMS: usize = 20;

/// The resources in files and folders.
fn read(paths: &[PathBuf]) -> Result<Resources, CliError> {
    let mut missed = Vec::new();
    let files = super::lint::listed(paths, &mut |note| missed.push(note));
    let mut all = Resources::default();
    for path in files {
        let label = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
        let bytes = super::lint::bytes(&path)
            .map_err(|error| CliError::Input(format!("cannot read {}: {error}", path.display())))?;
        all.read(&Arc::from(label), &bytes);
    }
    match missed.into_iter().next() {
        Some(note) => Err(CliError::Input(note)),
        None => Ok(all),
    }
}

/// Does the steps in a private copy; gives back the files they leave.
fn in_scratch(
    common: &Common,
    before: &Snapshot,
    steps: &[Step],
    args: &PlanArgs,
    rehearsal: &mut Rehearsal,
) -> Result<SnapshotFiles, CliError> {
    let limit = Duration::from_secs(args.timeout);
    let live = common.snapshot.is_none();
    let outcome = scratch::rehearse(before, live, steps, limit).map_err(CliError::Input)?;
    for done in &outcome.done {
        if done.ended.is_not_started(&done.said) {
            let why = done.said.lines().last().unwrap_or_default().trim_start_matches("setpriv: ").to_owned();
            return Err(CliError::Input(format!("{}: {why}", done.name)));
        }
        rehearsal.parts.push(done.name.clone());
        match done.ended {
            Ended::Status(0) if !done.changed => rehearsal
                .notes
                .push(format!("{} changed no rule, set, address, route or saved file in the copy", done.name)),
            Ended::Status(0) => {}
            ended => {
                let mut how = format!("{ended}: {}", if done.said.is_empty() { "it said nothing" } else { &done.said });
                if needs_a_daemon(steps, &done.name) {
                    how.push_str(
                        "; it talks to a daemon of the host, which is beyond the copy: plan the rules it would make",
                    );
                }
                rehearsal.failures.push(Failure { part: done.name.clone(), how, partial: done.changed });
            }
        }
    }
    for step in steps.iter().skip(outcome.done.len()) {
        rehearsal.notes.push(format!("{} was not tried, because a part before it failed", step.name));
    }
    rehearsal.not_copied.extend(outcome.not_copied);
    rehearsal.notes.extend(outcome.notes);
    Ok(outcome.files)
}

/// Programs that only pass orders on.
const ORDERS: [&str; 12] = [
    "firewall-cmd",
    "systemctl",
    "service",
    "docker",
    "podman",
    "nmcli",
    "networkctl",
    "kubectl",
    "calicoctl",
    "lxc",
    "virsh",
    "busctl",
];

fn needs_a_daemon(steps: &[Step], name: &str) -> bool {
    let program = steps.iter().find(|step| step.name == name).and_then(|step| step.command.first());
    let program = program.and_then(|program| Path::new(program).file_name()).and_then(|name| name.to_str());
    program.is_some_and(|program| ORDERS.contains(&program))
}

/// Rulesets to load and the command to run, in that order.
fn steps(args: &PlanArgs) -> Result<Vec<Step>, CliError> {
    let mut all = Vec::new();
    let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let mut load = |program: &str, path: &Path| -> Result<(), CliError> {
        let mut command: Vec<OsString> = match program {
            "nft" => ["nft", "-f", "-"].map(OsString::from).to_vec(),
            program => vec![program.into()],
        };
        if args.noflush && program != "nft" {
            command.push("--noflush".into());
        }
        let name = format!("{program} {}", path.display());
        all.push(Step { name, command, input: content(path)?, folder: folder.clone(), independent: false });
        Ok(())
    };
    let forms = [
        ("iptables-restore", &args.iptables_restore),
        ("ip6tables-restore", &args.ip6tables_restore),
        ("nft", &args.nft),
    ];
    for (program, files) in forms {
        for path in files {
            load(program, path)?;
        }
    }
    if !args.command.is_empty() {
        let words: Vec<String> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let name: String = words.join(" ").chars().take(200).collect();
        all.push(Step { name, command: args.command.clone(), input: Vec::new(), folder, independent: false });
    }
    Ok(all)
}

fn settings(args: &PlanArgs) -> Result<Vec<Setting>, CliError> {
    let mut all = Vec::new();
    for path in &args.felix_env {
        all.push(Setting::Environment { label: path.display().to_string(), text: content(path)? });
    }
    for path in &args.felix_cfg {
        all.push(Setting::Config { label: path.display().to_string(), text: content(path)? });
    }
    for text in &args.set {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            CliError::Usage(format!("--set {text:?}: expected NAME=VALUE, such as FailsafeInboundHostPorts=tcp:22"))
        })?;
        all.push(Setting::Parameter { name: name.trim().to_owned(), value: value.to_owned() });
    }
    Ok(all)
}

/// A file of the change; `-` is standard input.
fn content(path: &Path) -> Result<Vec<u8>, CliError> {
    let cannot = |why: &dyn std::fmt::Display| CliError::Input(format!("cannot read {}: {why}", path.display()));
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        let file = std::fs::File::open(path).map_err(|error| cannot(&error))?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)
    };
    read.map_err(|error| cannot(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(cannot(&"it is larger than 64 MiB; give the part that changes"));
    }
    Ok(bytes)
}

/// Writes the plan in the wanted format.
pub(super) fn print(common: &Common, plan: &Plan, out: &mut dyn Write) -> Result<(), CliError> {
    match common.format.as_str() {
        "text" => {
            let style = super::style(common);
            let text = if common.quiet {
                report::plan::brief(plan, style)
            } else {
                report::plan::text(plan, style, common.verbose)
            };
            out.write_all(text.as_bytes())?;
        }
        "json" => {
            writeln!(out, "{}", report::plan::document(plan))?;
        }
        "sarif" => {
            writeln!(out, "{}", report::json_pretty(&report::sarif::document(&plan.findings)))?;
        }
        "markdown" => out.write_all(report::plan::markdown(plan).as_bytes())?,
        "junit" => out.write_all(report::plan::junit(plan).as_bytes())?,
        other => return Err(super::unknown_format(other, &FORMATS)),
    }
    Ok(())
}

/// 1: do not apply. A risk counts from `--fail-on` on; a lockout always.
fn outcome(common: &Common, plan: &Plan) -> Outcome {
    let worst = plan.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Info);
    Outcome {
        findings: plan.verdict == Verdict::Lockout
            || (plan.verdict == Verdict::Risky && worst >= common.fail_on.severity().min(Severity::Medium)),
        incomplete: plan.verdict == Verdict::Unknown || !plan.limits.is_empty() || !plan.difference.is_whole(),
    }
}
