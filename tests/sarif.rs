//! SARIF of `lint` and `plan` against what SARIF 2.1.0 (OASIS standard, 27 March 2020) asks of the parts they use.
//!
//! Two judges: the committee's own schema (`fixtures/sarif/`), which lets unknown text stand for much, and a narrower one.
//! The narrower schema here is written from the standard's text (section numbers in the titles): required properties, value sets,
//! forms; every object lists all properties that the standard gives it among those used, so that a misspelt one fails.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn hepguard(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hepguard"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("hepguard runs")
}

fn schema() -> Value {
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false });
    let text = json!({ "type": "string", "minLength": 1 });
    let reference = json!({ "type": "string", "format": "uri-reference", "minLength": 1 });
    let positive = json!({ "type": "integer", "minimum": 1 });
    let level = json!({ "enum": ["none", "note", "warning", "error"] });
    let bag = json!({ "type": "object" });
    // 3.11 message, 3.12 multiformatMessageString
    let message =
        object(&["text"], json!({ "text": text, "markdown": text, "id": text, "arguments": { "type": "array" } }));
    let multiformat = object(&["text"], json!({ "text": text, "markdown": text }));
    // 3.4 artifactLocation, 3.30 region, 3.29 physicalLocation, 3.33 logicalLocation, 3.28 location
    let artifact_location =
        object(&[], json!({ "uri": reference, "uriBaseId": text, "index": { "type": "integer", "minimum": -1 } }));
    let region = object(
        &["startLine"],
        json!({ "startLine": positive, "startColumn": positive, "endLine": positive, "endColumn": positive }),
    );
    let physical = object(&["artifactLocation"], json!({ "artifactLocation": artifact_location, "region": region }));
    let logical = object(&[], json!({ "name": text, "fullyQualifiedName": text, "kind": text }));
    let location = object(
        &[],
        json!({
            "physicalLocation": physical,
            "logicalLocations": { "type": "array", "items": logical, "uniqueItems": true },
            "message": message,
        }),
    );
    // 3.49 reportingDescriptor, 3.50 reportingConfiguration, 3.19 toolComponent, 3.18 tool
    let rule = object(
        &["id"],
        json!({
            "id": text, "name": text, "shortDescription": multiformat, "fullDescription": multiformat,
            "help": multiformat, "helpUri": { "type": "string", "format": "uri" },
            "defaultConfiguration": object(&[], json!({ "level": level, "enabled": { "type": "boolean" } })),
            "properties": bag,
        }),
    );
    let driver = object(
        &["name"],
        json!({
            "name": text, "version": text, "semanticVersion": text,
            "informationUri": { "type": "string", "format": "uri" },
            "rules": { "type": "array", "items": rule, "uniqueItems": true },
        }),
    );
    // 3.27 result, 3.20 invocation, 3.24 artifact, 3.14 run, 3.13 sarifLog
    let result = object(
        &["message"],
        json!({
            "ruleId": text, "ruleIndex": { "type": "integer", "minimum": -1 }, "level": level, "message": message,
            "locations": { "type": "array", "items": location },
            "partialFingerprints": { "type": "object", "additionalProperties": { "type": "string" } },
            "properties": bag,
        }),
    );
    let invocation = object(&["executionSuccessful"], json!({ "executionSuccessful": { "type": "boolean" } }));
    let run = object(
        &["tool"],
        json!({
            "tool": object(&["driver"], json!({ "driver": driver })),
            "columnKind": { "enum": ["utf16CodeUnits", "unicodeCodePoints"] },
            "invocations": { "type": "array", "items": invocation },
            "artifacts": { "type": "array", "items": object(&[], json!({ "location": artifact_location })), "uniqueItems": true },
            "results": { "type": "array", "items": result },
        }),
    );
    let mut log = object(
        &["version", "runs"],
        json!({
            "$schema": { "type": "string", "format": "uri" },
            "version": { "const": "2.1.0" },
            "runs": { "type": "array", "items": run },
        }),
    );
    if let Some(log) = log.as_object_mut() {
        log.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    }
    log
}

fn complaint(document: &Value) -> Option<String> {
    official(document).or_else(|| refused_by(schema(), document))
}

/// What the schema of the committee says.
fn official(document: &Value) -> Option<String> {
    let text = include_str!("fixtures/sarif/sarif-2.1.0-rtm.5.json");
    refused_by(serde_json::from_str(text).expect("the schema is JSON"), document)
}

fn refused_by(schema: Value, document: &Value) -> Option<String> {
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.enable_format_assertions();
    compiler.add_resource("sarif.json", schema).expect("the schema is added");
    let index = compiler.compile("sarif.json", &mut schemas).expect("the schema compiles");
    schemas.validate(document, index).err().map(|error| format!("{error:#}"))
}

/// What no schema says: every result's rule is the one at its index (3.27.6).
fn rules_fit(document: &Value) {
    for run in document["runs"].as_array().expect("runs") {
        let rules = &run["tool"]["driver"]["rules"];
        for result in run["results"].as_array().expect("results") {
            let by_id = rules.as_array().expect("rules").iter().any(|rule| rule["id"] == result["ruleId"]);
            assert!(by_id, "{} has no rule", result["ruleId"]);
            if let Some(index) = result["ruleIndex"].as_u64() {
                let index = usize::try_from(index).expect("small");
                assert_eq!(rules[index]["id"], result["ruleId"]);
            }
        }
    }
}

#[test]
fn lints_are_sarif() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // names that are no URI as they stand, and text that is hostile
    let odd = folder.path().join("a b:c.yaml");
    let text = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: x}\n\
                spec: {selector: \"a == '\\e[31m'\", order: no}\n---\n\tnot yaml\n";
    fs::write(&odd, text).expect("the file is written");
    let odd = odd.to_str().expect("a path");
    for files in [&["tests/lint/platform.yaml"][..], &["src/demo/before/calico"], &[odd]] {
        let output = hepguard(&[&["lint", "--format", "sarif"], files].concat());
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(!document["runs"][0]["results"].as_array().expect("results").is_empty(), "{files:?}");
        assert_eq!(complaint(&document), None, "{files:?}: {document:#}");
        rules_fit(&document);
    }
}

#[test]
fn plans_are_sarif() {
    let output = hepguard(&["plan", "--felix", "restart", "--snapshot", "src/demo/before", "--format", "sarif"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(!document["runs"][0]["results"].as_array().expect("results").is_empty());
    assert_eq!(complaint(&document), None, "{document:#}");
    rules_fit(&document);
}

/// The check itself can fail.
#[test]
fn what_is_no_sarif_is_refused() {
    let good = json!({ "version": "2.1.0", "runs": [{ "tool": { "driver": { "name": "x" } }, "results": [
        { "message": { "text": "t" }, "level": "error" }
    ] }] });
    assert_eq!(complaint(&good), None);
    for (pointer, bad) in [
        ("/version", json!("2.0.0")),
        ("/runs/0/results/0/level", json!("high")),
        ("/runs/0/results/0/message", json!({})),
        ("/runs/0/tool", json!({})),
    ] {
        let mut document = good.clone();
        *document.pointer_mut(pointer).expect("the place is there") = bad;
        assert!(official(&document).is_some(), "{pointer}");
        assert!(refused_by(schema(), &document).is_some(), "{pointer}");
    }
}
