//! Statements that keep a count: rates, quotas, connection counts, and sets that grow by packets.

use super::expr::{Unknown, only, text};
use super::json::Json;
use super::rule::RuleReader;
use super::set::DataKinds;
use crate::ruleset::nft_words::{Kind, kinds_of};
use crate::ruleset::print::nft::{self, quoted};
use crate::ruleset::{Effect, Expr, Match, OpaqueKind, SetChange, SetOperation, Step};

impl RuleReader {
    /// `add @set { KEY … }`.
    pub(super) fn update_set(&mut self, body: &Json<'_>) -> Result<(), Unknown> {
        only(body, "set", &["op", "elem", "data", "set", "map", "stmt"])?;
        let operation = text(body, "op")?;
        let set = text(body, "set").or_else(|_| text(body, "map"))?;
        let name = set.strip_prefix('@').ok_or_else(|| format!("expected a set's name, found {set:?}"))?;
        let (key, mut words) = self.grown_key(body.get("elem").ok_or("a set statement without elem")?)?;
        let mut refuses = false;
        for statement in body.get("stmt").and_then(Json::array).unwrap_or_default() {
            refuses |= inner_statement(statement, &mut words)?;
        }
        if let Some(data) = body.get("data") {
            let (data, _) = self.part(data)?;
            self.require();
            words.push(format!(": {data}"));
        }
        let change = match operation {
            "add" | "update" => SetOperation::Add,
            "delete" => SetOperation::Delete,
            _ => return Err(format!("the unknown set operation {operation:?}")),
        };
        let change = key.map(|key| SetChange { operation: change, key });
        self.grow(name, change, format!("{operation} @{name} {{ {} }}", words.join(" ")), refuses);
        Ok(())
    }

    /// `meter NAME { KEY STATEMENT }`, the older form of the same.
    pub(super) fn meter(&mut self, body: &Json<'_>) -> Result<(), Unknown> {
        only(body, "meter", &["key", "stmt", "size", "name"])?;
        let name = text(body, "name")?;
        let (key, mut words) = self.grown_key(body.get("key").ok_or("a meter without key")?)?;
        let refuses = inner_statement(body.get("stmt").ok_or("a meter without stmt")?, &mut words)?;
        let size = body.get("size").and_then(Json::number).map(|size| format!(" size {size}")).unwrap_or_default();
        let change = key.map(|key| SetChange { operation: SetOperation::Add, key });
        self.grow(name, change, format!("meter {name}{size} {{ {} }}", words.join(" ")), refuses);
        Ok(())
    }

    fn grow(&mut self, set: &str, change: Option<SetChange>, text: String, refuses: bool) {
        let change = change.map(Box::new);
        self.push(Step::Effect(Effect::UpdateSet { set: set.into(), change, text: text.clone().into() }));
        if refuses {
            // the rule goes on only while the statement in the braces lets the packet pass
            let condition = Match::Opaque { kind: OpaqueKind::Stateful, text: text.into() };
            self.push(Step::Match(condition));
        }
    }

    /// The key of an element to add, and its text with its timeout.
    fn grown_key(&mut self, element: &Json<'_>) -> Result<(Option<Expr>, Vec<String>), Unknown> {
        let (key, timeout) = match element.single() {
            Some(("elem", inner)) => {
                only(inner, "elem", &["val", "timeout", "expires", "comment"])?;
                let timeout = inner.get("timeout").and_then(Json::number);
                (inner.get("val").ok_or("an element without val")?, timeout)
            }
            _ => (element, None),
        };
        let (text, key) = self.part(key)?;
        self.require();
        let timeout = timeout.map(|seconds| format!("timeout {}", Kind::Seconds.print(seconds)));
        Ok((key, [Some(text), timeout].into_iter().flatten().collect()))
    }

    /// Text of an expression, or of constants and expressions side by side: the set says of what kind the constants are, so
    /// that words among them leave the expression open.
    fn part(&mut self, json: &Json<'_>) -> Result<(String, Option<Expr>), Unknown> {
        match (json, json.single()) {
            (Json::Text(word), _) => Ok((word.to_string(), None)),
            (Json::Number(number), _) => Ok((number.to_string(), u128::try_from(*number).ok().map(Expr::Number))),
            (_, Some(("concat", Json::Array(parts)))) => {
                let parts = parts.iter().map(|part| self.part(part)).collect::<Result<Vec<_>, _>>()?;
                let (texts, exprs): (Vec<String>, Vec<Option<Expr>>) = parts.into_iter().unzip();
                Ok((texts.join(" . "), exprs.into_iter().collect::<Option<Vec<Expr>>>().map(Expr::Concat)))
            }
            _ => {
                let expr = self.expr(json)?;
                self.require();
                Ok((nft::expression(&self.known, &expr), Some(expr)))
            }
        }
    }

    /// Name of an object, or a map that gives names of objects.
    pub(super) fn object_name(&mut self, body: &Json<'_>) -> Result<String, Unknown> {
        if let Some(name) = body.text() {
            return Ok(quoted(name));
        }
        let Some(("map", map)) = body.single() else { return Err(format!("expected an object's name, found {body}")) };
        only(map, "map", &["key", "data"])?;
        let key = self.expr(map.get("key").ok_or("a map without key")?)?;
        let data = map.get("data").ok_or("a map without data")?;
        let map = self.set_ref(data, &kinds_of(&key), &DataKinds::Object)?;
        self.require();
        Ok(nft::expression(&self.known, &Expr::Map { key: Box::new(key), map }))
    }
}

/// Adds the text of a statement inside a set statement's braces; says whether it can end the rule.
fn inner_statement(statement: &Json<'_>, words: &mut Vec<String>) -> Result<bool, Unknown> {
    match statement.single() {
        Some((name @ ("counter" | "last"), _)) => {
            words.push(name.into());
            Ok(false)
        }
        Some((name @ ("limit" | "quota" | "ct count"), inner)) => {
            words.push(stateful_text(name, inner)?);
            Ok(true)
        }
        _ => Err(format!("the unknown statement {statement} inside a set statement")),
    }
}

/// Text of `limit`, `quota` and `ct count`.
pub(super) fn stateful_text(name: &str, body: &Json<'_>) -> Result<String, Unknown> {
    if let Some(object) = body.text() {
        return Ok(format!("{name} name {}", quoted(object)));
    }
    let over = if body.flag("inv") { "over " } else { "" };
    let number = |key: &str| body.get(key).and_then(Json::number);
    match name {
        "ct count" => {
            only(body, name, &["val", "inv"])?;
            Ok(format!("ct count {over}{}", number("val").ok_or("ct count without val")?))
        }
        "quota" => {
            only(body, name, &["val", "val_unit", "inv", "used", "used_unit"])?;
            let unit = body.text_at("val_unit").unwrap_or("bytes");
            Ok(format!("quota {over}{} {unit}", number("val").ok_or("a quota without val")?))
        }
        _ => {
            only(body, name, &["rate", "burst", "per", "inv", "rate_unit", "burst_unit"])?;
            let rate = number("rate").ok_or("a limit without rate")?;
            let per = text(body, "per")?;
            let burst = number("burst").unwrap_or(0);
            Ok(match body.text_at("rate_unit") {
                Some(unit) if unit != "packets" => {
                    let burst_unit = body.text_at("burst_unit").unwrap_or("bytes");
                    let burst = if burst > 0 { format!(" burst {burst} {burst_unit}") } else { String::new() };
                    format!("limit rate {over}{rate} {unit}/{per}{burst}")
                }
                _ => {
                    let burst = if matches!(burst, 0 | 5) { String::new() } else { format!(" burst {burst} packets") };
                    format!("limit rate {over}{rate}/{per}{burst}")
                }
            })
        }
    }
}
