//! Statements: each becomes one step of its rule.

use super::counting::stateful_text;
use super::expr::{Unknown, constant, interval, only, text};
use super::json::Json;
use super::rule::RuleReader;
use super::set::DataKinds;
use crate::packet::Family;
use crate::ruleset::nft_words::{Kind, Needs, kind_of, kinds_of};
use crate::ruleset::print::nft::{self, quoted};
use crate::ruleset::{Counters, Effect, Expr, Match, Nat, NatKind, NatTarget, OpaqueKind, Step, Verdict};

/// A verdict statement, also as data of verdict maps.
pub(super) fn verdict(json: &Json<'_>) -> Result<Verdict, Unknown> {
    let (name, body) = json.single().ok_or_else(|| format!("expected a verdict, found {json}"))?;
    let target = || text(body, "target").map(Into::into);
    match name {
        "accept" => Ok(Verdict::Accept),
        "drop" => Ok(Verdict::Drop),
        "return" => Ok(Verdict::Return),
        "continue" => Ok(Verdict::Continue),
        "jump" => target().map(Verdict::Jump),
        "goto" => target().map(Verdict::Goto),
        _ => Err(format!("expected a verdict, found {json}")),
    }
}

/// xt targets whose name says enough: they let the packet go on as it is.
const HARMLESS_TARGETS: [&str; 9] =
    ["LOG", "NFLOG", "TRACE", "TCPMSS", "CLASSIFY", "CHECKSUM", "AUDIT", "LED", "RATEEST"];

impl RuleReader {
    /// One statement.
    pub(super) fn statement(&mut self, json: &Json<'_>) {
        let Some((name, body)) = json.single() else {
            self.push_unknown("statement", json, format!("expected a statement with one key, found {json}"));
            return;
        };
        if let Err(why) = self.known_statement(name, body, json) {
            self.push_unknown(name, body, why);
        }
    }

    fn known_statement(&mut self, name: &str, body: &Json<'_>, json: &Json<'_>) -> Result<(), Unknown> {
        match name {
            "match" => {
                let condition = self.condition(body)?;
                self.push(Step::Match(condition));
            }
            "accept" | "drop" | "return" | "continue" | "jump" | "goto" => {
                let verdict = verdict(json)?;
                self.push(Step::Verdict(verdict));
            }
            "vmap" => self.vmap(body)?,
            "counter" => self.counter(body)?,
            "mangle" => self.mangle(body)?,
            "reject" => self.reject(body)?,
            "log" => self.log(body)?,
            "limit" | "quota" | "ct count" => self.stateful_statement(name, body)?,
            "notrack" => self.push(Step::Effect(Effect::NoTrack)),
            "snat" | "dnat" | "masquerade" | "redirect" => self.nat(name, body)?,
            "queue" => self.queue(body)?,
            "set" | "map" => self.update_set(body)?,
            "meter" => self.meter(body)?,
            "xt" => self.xt(body),
            "tproxy" | "synproxy" | "fwd" => self.elsewhere(name, body)?,
            _ => self.harmless(name, body)?,
        }
        Ok(())
    }

    fn vmap(&mut self, body: &Json<'_>) -> Result<(), Unknown> {
        only(body, "vmap", &["key", "data"])?;
        let key = self.expr(body.get("key").ok_or("a vmap without key")?)?;
        let data = body.get("data").ok_or("a vmap without data")?;
        let map = self.set_ref(data, &kinds_of(&key), &DataKinds::Verdict)?;
        self.push(Step::Vmap { key, map });
        Ok(())
    }

    fn counter(&mut self, body: &Json<'_>) -> Result<(), Unknown> {
        match body {
            Json::Null => self.push(Step::Effect(Effect::Count)),
            Json::Text(_) | Json::Object(_) if body.text().is_some() || body.get("map").is_some() => {
                let text = format!("counter name {}", self.object_name(body)?);
                self.push(Step::Effect(Effect::Harmless(text.into())));
            }
            Json::Object(_) => {
                only(body, "counter", &["packets", "bytes"])?;
                let number = |key: &str| body.get(key).and_then(Json::number).and_then(|n| u64::try_from(n).ok());
                if let (Some(packets), Some(bytes)) = (number("packets"), number("bytes")) {
                    self.counters.get_or_insert(Counters { packets, bytes });
                }
                self.push(Step::Effect(Effect::Count));
            }
            _ => return Err(format!("expected a counter, found {body}")),
        }
        Ok(())
    }

    fn mangle(&mut self, body: &Json<'_>) -> Result<(), Unknown> {
        only(body, "mangle", &["key", "value"])?;
        let target = body.get("key").ok_or("mangle without key")?;
        let value = body.get("value").ok_or("mangle without value")?;
        let named = target.single().and_then(|(group, key)| Some((group, key.text_at("key")?)));
        match (target.single(), named) {
            (_, Some(("meta", "nftrace") | ("ct", "event"))) | (Some(("tcp option" | "exthdr", _)), _) => {
                let target = self.expr(target)?;
                let kind = kind_of(&target);
                let operand = self.operand(value, kind);
                self.require();
                let value = match operand {
                    Ok(value) => nft::value(&self.known, &value, kind),
                    Err(_) => value.to_string(),
                };
                let text = format!("{} set {value}", nft::expression(&self.known, &target));
                self.push(Step::Effect(Effect::Harmless(text.into())));
                Ok(())
            }
            _ => {
                let target = self.expr(target)?;
                let kind = kind_of(&target);
                let value = self.operand(value, kind)?;
                match target {
                    Expr::Field(field) => self.push(Step::Effect(Effect::Set { field, value })),
                    // bytes of which nobody says what they mean
                    Expr::Payload { .. } => {
                        self.require();
                        let target = nft::expression(&self.known, &target);
                        let text = format!("{target} set {}", nft::value(&self.known, &value, kind));
                        self.push(Step::Effect(Effect::Opaque(text.into())));
                    }
                    _ => return Err("an assignment to what is no field".into()),
                }
                Ok(())
            }
        }
    }

    fn reject(&mut self, body: &Json<'_>) -> Result<(), Unknown> {
        let text = match body {
            Json::Null => match self.known.family() {
                Family::Ipv4 => "icmp port-unreachable".to_owned(),
                Family::Ipv6 => "icmpv6 port-unreachable".to_owned(),
                _ => "icmpx port-unreachable".to_owned(),
            },
            _ => {
                only(body, "reject", &["type", "expr"])?;
                let kind = text(body, "type")?;
                match (kind, body.get("expr")) {
                    ("tcp reset", None) => self.need(Needs::Protocol(6)),
                    ("icmp", Some(_)) => self.need(Needs::Ipv4),
                    ("icmpv6", Some(_)) => self.need(Needs::Ipv6),
                    ("icmpx", Some(_)) => {}
                    _ => return Err(format!("the unknown reject {body}")),
                }
                match body.get("expr") {
                    None => kind.to_owned(),
                    Some(Json::Text(code)) => format!("{kind} {code}"),
                    Some(Json::Number(code)) => format!("{kind} {code}"),
                    Some(other) => return Err(format!("the unknown reject code {other}")),
                }
            }
        };
        self.push(Step::Verdict(Verdict::Reject(text.into())));
        Ok(())
    }

    fn log(&mut self, body: &Json<'_>) -> Result<(), Unknown> {
        let mut words = vec!["log".to_owned()];
        let mut effect = (None, None);
        if *body != Json::Null {
            only(body, "log", &["prefix", "group", "snaplen", "queue-threshold", "level", "flags"])?;
            if let Some(prefix) = body.text_at("prefix") {
                effect.0 = Some(prefix.into());
                words.push(format!("prefix {}", quoted(prefix)));
            }
            for name in ["group", "snaplen", "queue-threshold"] {
                let Some(value) = body.get(name) else { continue };
                let number = value.number().ok_or_else(|| format!("expected a number at {name}, found {value}"))?;
                if name == "group" {
                    effect.1 = Some(u16::try_from(number).map_err(|_| format!("the log group {number}"))?);
                }
                words.push(format!("{name} {number}"));
            }
            if let Some(level) = body.text_at("level") {
                words.push(format!("level {level}"));
            }
            if let Some(flags) = body.get("flags") {
                words.extend(log_flags(&flags.words().unwrap_or_default()));
            }
        }
        self.push_as(
            Step::Effect(Effect::Log { prefix: effect.0, group: effect.1, options: Box::default() }),
            words.join(" "),
        );
        Ok(())
    }

    /// Conditions on state of this one rule.
    fn stateful_statement(&mut self, name: &str, body: &Json<'_>) -> Result<(), Unknown> {
        let text = match body.get("map") {
            Some(_) => format!("{name} name {}", self.object_name(body)?),
            None => stateful_text(name, body)?,
        };
        self.push(Step::Match(Match::Opaque { kind: OpaqueKind::Stateful, text: text.into() }));
        Ok(())
    }

    fn nat(&mut self, name: &str, body: &Json<'_>) -> Result<(), Unknown> {
        let mut nat = Nat {
            kind: match name {
                "snat" => NatKind::Snat,
                "dnat" => NatKind::Dnat,
                "masquerade" => NatKind::Masquerade,
                _ => NatKind::Redirect,
            },
            address: None,
            port: None,
            options: Box::default(),
        };
        let mut flags = Vec::new();
        if *body != Json::Null {
            only(body, name, &["addr", "family", "port", "flags", "type_flags"])?;
            let family = body.text_at("family");
            match family {
                Some("ip") => self.need(Needs::Ipv4),
                Some("ip6") => self.need(Needs::Ipv6),
                Some(other) => return Err(format!("the unknown address family {other:?}")),
                None => {}
            }
            if body.get("type_flags").and_then(Json::words).is_some_and(|words| words.contains(&"prefix")) {
                nat.kind = if name == "dnat" { NatKind::DnatPrefix } else { NatKind::SnatPrefix };
            }
            if let Some(address) = body.get("addr") {
                let kind = self.address_kind(address, family);
                nat.address = Some(self.nat_target(address, kind)?);
            }
            if let Some(port) = body.get("port") {
                nat.port = Some(self.nat_target(port, Kind::Port)?);
            }
            flags = body.get("flags").and_then(Json::words).unwrap_or_default();
        }
        self.require();
        let mut text = nft::nat(&self.known, &nat);
        flags.retain(|flag| *flag != "netmap");
        if !flags.is_empty() {
            text = format!("{text} {}", flags.join(","));
        }
        self.push_as(Step::Verdict(Verdict::Nat(nat)), text);
        Ok(())
    }

    fn nat_target(&mut self, json: &Json<'_>, kind: Kind) -> Result<NatTarget, Unknown> {
        if let Some(("map", body)) = json.single() {
            // address and port side by side where the map's data are pairs
            let pair = first_data(body).is_some_and(|data| matches!(data.single(), Some(("concat", _))));
            let kinds = if pair { vec![kind, Kind::Port] } else { vec![kind] };
            return self.map(body, &kinds).map(NatTarget::Expr);
        }
        match interval(json, kind) {
            Ok(interval) => Ok(NatTarget::Range(interval)),
            Err(why) => match json.single() {
                Some(("prefix" | "range", _)) | None => Err(why),
                Some(_) => self.expr(json).map(NatTarget::Expr),
            },
        }
    }

    fn queue(&mut self, body: &Json<'_>) -> Result<(), Unknown> {
        let mut bypass = false;
        let mut words = vec!["queue".to_owned()];
        if *body != Json::Null {
            only(body, "queue", &["num", "flags"])?;
            let flags = body.get("flags").and_then(Json::words).unwrap_or_default();
            bypass = flags.contains(&"bypass");
            if !flags.is_empty() {
                words.push(format!("flags {}", flags.join(",")));
            }
            if let Some(number) = body.get("num") {
                let number = match interval(number, Kind::Integer(16)) {
                    Ok(range) => Kind::Integer(16).print_interval(range),
                    Err(_) => number.to_string(),
                };
                words.push(format!("to {number}"));
            }
        }
        self.push_as(Step::Verdict(Verdict::Queue { bypass, options: Box::default() }), words.join(" "));
        Ok(())
    }

    fn xt(&mut self, body: &Json<'_>) {
        let kind = body.text_at("type");
        let name = body.text_at("name").unwrap_or("?");
        match kind {
            Some("match") if name == "comment" => {
                self.push(Step::Effect(Effect::Harmless(format!("xt match {}", quoted(name)).into())));
            }
            // what it asks is hidden: two rules with the same name may ask different things
            Some("match") => {
                let text = format!("xt match {}", quoted(name)).into();
                self.push(Step::Match(Match::Opaque { kind: OpaqueKind::Stateful, text }));
            }
            Some("target") if HARMLESS_TARGETS.contains(&name) => {
                self.push(Step::Effect(Effect::Harmless(format!("xt target {}", quoted(name)).into())));
            }
            Some("target") if name == "REJECT" => {
                let text = "xt target \"REJECT\"";
                self.push_as(Step::Verdict(Verdict::Reject(text.into())), text.into());
            }
            Some("target") => {
                self.push(Step::Effect(Effect::Opaque(format!("xt target {}", quoted(name)).into())));
            }
            _ => self.push(Step::Effect(Effect::Opaque(format!("xt {body}").into()))),
        }
    }

    /// Statements after which something outside the ruleset decides.
    fn elsewhere(&mut self, name: &str, body: &Json<'_>) -> Result<(), Unknown> {
        let text = match name {
            "tproxy" => {
                only(body, name, &["addr", "port", "family"])?;
                let family = body.text_at("family");
                match family {
                    Some("ip") => self.need(Needs::Ipv4),
                    Some("ip6") => self.need(Needs::Ipv6),
                    _ => {}
                }
                let mut target = String::new();
                if let Some(address) = body.get("addr") {
                    let kind = self.address_kind(address, family);
                    let address = kind.print(constant(address, kind)?);
                    target = if let Kind::Ipv6 = kind { format!("[{address}]") } else { address };
                }
                if let Some(port) = body.get("port") {
                    target = format!("{target}:{}", constant(port, Kind::Port)?);
                }
                let family = family.map(|family| format!(" {family}")).unwrap_or_default();
                format!("tproxy{family} to {target}")
            }
            "synproxy" if body.text().is_some() || body.get("map").is_some() => {
                format!("synproxy name {}", self.object_name(body)?)
            }
            "synproxy" => synproxy(body)?,
            _ => {
                only(body, name, &["dev", "addr", "family"])?;
                let device = self.device(body.get("dev").ok_or("fwd without dev")?)?;
                match (body.text_at("family"), body.get("addr")) {
                    (Some(family), Some(address)) => {
                        let kind = self.address_kind(address, Some(family));
                        let address = self.operand(address, kind)?;
                        self.require();
                        format!("fwd {family} to {} device {device}", nft::value(&self.known, &address, kind))
                    }
                    _ => format!("fwd to {device}"),
                }
            }
        };
        self.push(Step::Verdict(Verdict::Opaque(text.into())));
        Ok(())
    }

    /// Text of a device, or of a map that gives devices.
    fn device(&mut self, json: &Json<'_>) -> Result<String, Unknown> {
        let device = self.operand(json, Kind::Index)?;
        self.require();
        Ok(nft::value(&self.known, &device, Kind::Index))
    }

    /// Statements that do not change which packets pass.
    fn harmless(&mut self, name: &str, body: &Json<'_>) -> Result<(), Unknown> {
        let text = match name {
            "ct helper" | "ct timeout" | "ct expectation" => Some(format!("{name} set {}", self.object_name(body)?)),
            "secmark" => Some(format!("meta secmark set {}", self.object_name(body)?)),
            "dup" => {
                only(body, "dup", &["addr", "dev"])?;
                let address = body.get("addr").ok_or("dup without addr")?;
                let device = match body.get("dev") {
                    Some(device) => format!(" device {}", self.device(device)?),
                    None => String::new(),
                };
                // at a device the copy goes to another device, in the IP stack to another host
                let to = match self.known.family() {
                    Family::Netdev => self.device(address)?,
                    _ => {
                        let kind = self.address_kind(address, None);
                        let address = self.operand(address, kind)?;
                        self.require();
                        nft::value(&self.known, &address, kind)
                    }
                };
                Some(format!("dup to {to}{device}"))
            }
            "flow" => {
                let flowtable = text(body, "flowtable")?;
                self.notes.push(format!(
                    "offloads connections to flowtable {flowtable}: their later packets skip the forward chains"
                ));
                self.push(Step::Effect(Effect::Offload(flowtable.trim_start_matches('@').into())));
                return Ok(());
            }
            "reset" => {
                let expr = self.expr(body)?;
                Some(format!("reset {}", nft::expression(&self.known, &expr)))
            }
            "last" => Some("last".into()),
            "tunnel" => Some(format!("tunnel name {}", self.object_name(body)?)),
            _ => return Err(format!("the unknown statement {name:?}")),
        };
        let text = text.ok_or_else(|| format!("the statement {name:?} in an unknown form"))?;
        self.push(Step::Effect(Effect::Harmless(text.into())));
        Ok(())
    }
}

/// Data of the first pair of an anonymous map.
fn first_data<'j>(body: &'j Json<'_>) -> Option<&'j Json<'j>> {
    let (_, set) = body.get("data")?.single()?;
    set.array()?.first()?.array()?.get(1)
}

/// Groups log flags as nft writes them: `flags tcp sequence,options flags skuid`.
fn log_flags(flags: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for flag in flags {
        match (flag.strip_prefix("tcp "), words.last_mut()) {
            (Some(option), Some(last)) if last.starts_with("flags tcp ") => {
                last.push(',');
                last.push_str(option);
            }
            _ => words.push(format!("flags {flag}")),
        }
    }
    words
}

fn synproxy(body: &Json<'_>) -> Result<String, Unknown> {
    if *body == Json::Null {
        return Ok("synproxy".into());
    }
    only(body, "synproxy", &["mss", "wscale", "flags"])?;
    let mut words = vec!["synproxy".to_owned()];
    for name in ["mss", "wscale"] {
        if let Some(number) = body.get(name).and_then(Json::number) {
            words.push(format!("{name} {number}"));
        }
    }
    words.extend(body.get("flags").and_then(Json::words).unwrap_or_default().into_iter().map(str::to_owned));
    Ok(words.join(" "))
}
