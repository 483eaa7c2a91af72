//! What `packaging/siem/` ships is read by the tools it is for.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hepguard::config::Alerts;
use hepguard::forward::sender::Forwarder;
use hepguard::forward::transport::Target;
use hepguard::monitor::look::Judged;
use hepguard::monitor::{Moment, Monitor};
use hepguard::report::status::{Health, Output, metrics};
use serde_json::Value;

use crate::rig::{Rsyslog, apart, certificates, now, numbered, output, python, skip, tls};

const SIEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/siem");

fn read(name: &str) -> String {
    fs::read_to_string(format!("{SIEM}/{name}")).expect(name)
}

/// Names of figures in a text.
fn figures(text: &str) -> Vec<String> {
    let word = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let mut found: Vec<String> = text.match_indices("hepguard_").map(|(at, _)| word(&text[at..])).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn rules_and_dashboard_name_figures_that_exist() {
    let moment = Moment { wall: 1_800_000_000_000, steady: 0 };
    let mut monitor = Monitor::new(Alerts::default(), moment);
    monitor.last = Some(Judged::default());
    monitor.judged_at = Some(moment.wall);
    let health =
        Health { conntrack: Some((1, 2)), took: Some(3), outputs: vec![Output::default()], ..Health::default() };
    let known = metrics(&monitor, &health);
    // of a family without a sample yet only the type line tells
    let told = |name: &str| {
        known.lines().any(|line| {
            line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")) || {
                let base = name.trim_end_matches("_total");
                base != name && line == format!("# TYPE {base} counter")
            }
        }) || known.contains(&format!("# TYPE {name} gauge"))
    };
    let mut count = 0;
    for file in ["prometheus/hepguard.rules.yml", "grafana/hepguard.json"] {
        for name in figures(&read(file)) {
            assert!(told(&name), "{file} names {name}, which hepguard does not tell\n{known}");
            count += 1;
        }
    }
    assert!(count > 12, "{count}");
    for file in ["grafana/hepguard.json", "elastic/index-template.json"] {
        let _: Value = serde_json::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    let _: toml::Table = toml::from_str(&read("vector/hepguard.toml")).expect("TOML");
}

/// Whether the index template maps a field, or lets any below it in.
fn is_mapped(template: &Value, field: &str) -> bool {
    let mut at = &template["template"]["mappings"];
    for name in field.split('.') {
        if at["type"] == "flattened" {
            return true;
        }
        at = &at["properties"][name];
    }
    at["type"].is_string()
}

/// No Kibana is to be had here: every object has the attributes that Kibana's sources declare, and names only what is there.
#[test]
fn kibana_objects_refer_to_each_other_and_to_mapped_fields() {
    let text = read("kibana/hepguard.ndjson");
    let mut objects: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let summary = objects.pop().expect("a summary");
    assert_eq!((&summary["exportedCount"], &summary["missingRefCount"]), (&objects.len().into(), &0.into()));
    let template: Value = serde_json::from_str(&read("elastic/index-template.json")).expect("JSON");
    let inner =
        |text: &Value| -> Value { serde_json::from_str(text.as_str().expect("text")).expect("JSON within JSON") };
    let known: Vec<(&Value, &Value)> = objects.iter().map(|object| (&object["type"], &object["id"])).collect();
    let mut fields = 0;
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/siem/kibana-objects.json");
    let schema = compiler.compile(schema, &mut schemas).expect("the schema compiles");
    for object in &objects {
        if let Err(error) = schemas.validate(object, schema) {
            panic!("{error:#}\n{object:#}");
        }
        // and the schema is one that can refuse
        for (name, value) in [("colour", Value::from("red")), ("title", Value::from(7))] {
            let mut wrong = object.clone();
            wrong["attributes"][name] = value;
            assert!(schemas.validate(&wrong, schema).is_err(), "{wrong:#}");
        }
        let (attributes, references) = (&object["attributes"], object["references"].as_array().expect("references"));
        assert!(attributes["title"].as_str().is_some_and(|title| !title.is_empty()), "{object}");
        for reference in references {
            assert!(known.contains(&(&reference["type"], &reference["id"])), "{reference} is not in the file");
        }
        let names: Vec<&str> = references.iter().filter_map(|reference| reference["name"].as_str()).collect();
        match object["type"].as_str() {
            Some("index-pattern") => assert!(is_mapped(&template, attributes["timeFieldName"].as_str().expect("text"))),
            Some("search") => {
                let source = inner(&attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]);
                assert!(names.contains(&source["indexRefName"].as_str().expect("a name")), "{source}");
                let query = source["query"]["query"].as_str().expect("a query");
                let asked = query.split_whitespace().filter_map(|word| word.strip_suffix(':'));
                let shown = attributes["columns"].as_array().expect("columns").iter().filter_map(Value::as_str);
                for field in asked.chain(shown) {
                    assert!(is_mapped(&template, field), "{field} is not mapped");
                    fields += 1;
                }
            }
            Some("dashboard") => {
                let panels = inner(&attributes["panelsJSON"]);
                let panels = panels.as_array().expect("panels");
                assert_eq!(panels.len(), references.len());
                for panel in panels {
                    let index = panel["panelIndex"].as_str().expect("an index");
                    let name = format!("{index}:{}", panel["panelRefName"].as_str().expect("a name"));
                    assert!(names.contains(&name.as_str()), "{name}");
                    let grid = |key: &str| panel["gridData"][key].as_u64().expect("a number");
                    assert!(panel["gridData"]["i"] == index && grid("w") > 0 && grid("x") + grid("w") <= 48, "{panel}");
                }
            }
            other => panic!("{other:?}: nobody here knows it"),
        }
    }
    assert!(fields > 20, "{fields}");
}

/// CEF has no schema; a reader that others wrote must find what was meant, and nothing forged.
#[test]
fn an_independent_reader_takes_cef_apart() {
    if python("import pycef", "").is_none() {
        return skip("an_independent_reader_takes_cef_apart", "needs Python's pycef");
    }
    let lab =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/logs/lab-syslog.log")).expect("there");
    let line = lab.lines().next().expect("a line");
    let names = [r"x|y=z", r#"a\" src=6.6.6.6 act=allow"#, r"p\\s\nCEF:0|q|r|s|1|t|10|src=6.6.6.6 "];
    let log: String = names.iter().map(|name| format!("{}\n", line.replace("hep-external", name))).collect();
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log");
    fs::write(&path, log).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_hepguard"))
        .args(["denies", path.to_str().expect("a path"), "--format", "cef"])
        .env("TZ", "UTC")
        .output()
        .expect("runs");
    let cef = String::from_utf8(output.stdout).expect("text");
    let script = "import sys, json, pycef\nfor line in sys.stdin: print(json.dumps(pycef.parse(line.rstrip('\\n'))))";
    let read = python(script, &cef).expect("it reads every line");
    let events: Vec<Value> = read.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events.len(), names.len(), "{cef}");
    for event in &events {
        let found =
            ["CEFVersion", "DeviceVendor", "DeviceEventClassID", "src", "dst", "dpt", "act"].map(|key| &event[key]);
        assert_eq!(found, ["0", "hepguard", "deny", "10.0.1.10", "147.75.40.148", "443", "deny"], "{cef}");
    }
}

/// Neither Elasticsearch nor Grafana is to be had here, but the types their makers publish of what they take are: `tests/run`
/// installs them, and `HEPGUARD_TYPES` names the folder.
#[test]
fn the_template_and_the_dashboard_are_of_the_types_that_their_makers_publish() {
    let name = "the_template_and_the_dashboard_are_of_the_types_that_their_makers_publish";
    let types = std::env::var_os("HEPGUARD_TYPES").map(std::path::PathBuf::from);
    let Some(types) = types.filter(|folder| folder.join("node_modules/.bin/tsc").exists()) else {
        // a registry may be out of reach
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: needs HEPGUARD_TYPES");
        return;
    };
    let folder = tempfile::tempdir_in(&types).expect("a folder");
    let accepts = |import: &str, value: &str| {
        let file = folder.path().join("value.ts");
        fs::write(&file, format!("import type {import};\nexport const value: Wanted = {value};\n")).expect("written");
        let output = Command::new(types.join("node_modules/.bin/tsc"))
            .args(["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--types", ""])
            .args(["--module", "nodenext", "--moduleResolution", "nodenext"])
            .arg(&file)
            .output()
            .expect("tsc runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let mut template: Value = serde_json::from_str(&read("elastic/index-template.json")).expect("JSON");
    template["name"] = "hepguard".into();
    let template = template.to_string();
    let elastic = "{ IndicesPutIndexTemplateRequest as Wanted } from \"@elastic/elasticsearch/lib/api/types\"";
    let grafana = "{ Dashboard as Wanted } from \"@grafana/schema\"";
    let dashboard = read("grafana/hepguard.json");
    for (import, value) in [(elastic, &template), (grafana, &dashboard)] {
        let (accepted, why) = accepts(import, value);
        assert!(accepted, "{import}: {why}");
    }
    // and they can refuse: a type that does not exist, a key that does not exist, a word for a number
    for (import, value) in [
        (elastic, template.replace("\"match_only_text\"", "\"match_only_txt\"")),
        (elastic, template.replace("\"index_patterns\"", "\"index_pattern\"")),
        (grafana, dashboard.replacen("\"schemaVersion\": ", "\"schemaVersion\": \"x\" + ", 1)),
    ] {
        assert!(value != template && value != dashboard, "something was changed");
        assert!(!accepts(import, &value).0, "{import} takes anything");
    }
}

/// Vector itself is not to be had here; the compiler of its language is, as a Python module.
#[test]
fn vectors_own_compiler_takes_what_its_configuration_remaps() {
    let name = "vectors_own_compiler_takes_what_its_configuration_remaps";
    let python = |source: &str| {
        let script = "import sys, pyvrl; pyvrl.Transform(sys.argv[1])";
        Command::new("python3").args(["-c", script, source]).stdout(Stdio::null()).output()
    };
    if !python(".").is_ok_and(|output| output.status.success()) {
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: needs Python's pyvrl");
        return;
    }
    let config: toml::Table = toml::from_str(&read("vector/hepguard.toml")).expect("TOML");
    let transforms = config["transforms"].as_table().expect("transforms");
    assert!(!transforms.is_empty());
    for (name, transform) in transforms {
        let source = transform["source"].as_str().expect("a program");
        let output = python(source).expect("python3 runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let wrong = source.replace("parse_json(", "parse_nothing(");
        assert!(!python(&wrong).expect("python3 runs").status.success(), "it takes anything");
    }
}

#[test]
fn promtool_takes_the_rules_and_their_tests_pass() {
    let promtool = |arguments: &[&str]| {
        Command::new("promtool").args(arguments).current_dir(format!("{SIEM}/prometheus")).output()
    };
    if promtool(&["--version"]).is_err() {
        // `tests/run` unpacks it where it can be had
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED promtool_takes_the_rules_and_their_tests_pass: promtool is not installed"
        );
        return;
    }
    for arguments in [&["check", "rules", "hepguard.rules.yml"], &["test", "rules", "hepguard.test.yml"]] {
        let output = promtool(arguments).expect("runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_collector_of_the_shipped_rsyslog_file_writes_a_line_of_json_a_message() {
    apart("the_collector_of_the_shipped_rsyslog_file_writes_a_line_of_json_a_message", || {
        let dir = tempfile::tempdir().expect("a folder");
        certificates(dir.path());
        let at = dir.path().display().to_string();
        let shipped = read("rsyslog/50-hepguard.conf");
        assert!(shipped.contains("hepguard-ca.pem") && shipped.contains("/var/log/hepguard/"));
        let config = shipped
            .replace("/etc/rsyslog.d/hepguard-", &format!("{at}/"))
            .replace("/var/log/hepguard/", &format!("{at}/logs/"));
        let config = format!("global(workDirectory=\"{at}\")\n{config}");
        let _collector = Rsyslog::with_config(dir.path(), &config);
        let state = tempfile::tempdir().expect("a folder");
        let to = output(Target::Relp { address: "127.0.0.1:2514".to_owned(), tls: Some(tls(dir.path())) });
        let (forwarder, _) = Forwarder::start(state.path(), vec![to], "bastion", now).expect("started");
        forwarder.submit(&numbered(7, "a \"quoted\" \\ ] message\n\u{1b}"));
        let status = forwarder.stop(Duration::from_secs(10)).remove(0);
        assert_eq!(status.lanes[0].waiting, 0, "{status:?}");
        let file = dir.path().join("logs/bastion.jsonl");
        let end = Instant::now() + Duration::from_secs(10);
        while !fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')) {
            assert!(Instant::now() < end, "{}", fs::read_to_string(dir.path().join("stderr")).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(50));
        }
        let line: Value = serde_json::from_str(&fs::read_to_string(&file).expect("there")).expect("JSON");
        assert_eq!((&line["host"], &line["kind"]), (&"bastion".into(), &"HEALTH".into()));
        assert!(line["message"].as_str().is_some_and(|text| text.contains("a \"quoted\" \\ ] message\\n")), "{line}");
        assert!(line["fields"].as_str().is_some_and(|text| text.contains("number=\"7\"")), "{line}");
    });
}
