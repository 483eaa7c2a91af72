//! What the firewall becomes when Calico's resources or Felix's settings change.
//!
//! ```text
//! what is known now ─► rendered ─┬─ compared with the live rules: fidelity
//! what will be known ─► rendered ┴─ chains that differ take the place of the live ones; all else stays
//! ```
//! Rules of others keep their place, and so does all of Felix's that the change does not touch. Where the resources given
//! do not explain the live chains, or none are given, a change touches the chains of its own policies alone.

mod compile;
mod observe;
mod overlay;
mod sets;
mod splice;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use splice::{Fidelity, MAX_NAMED};

use super::names::Generation;
use super::order::{Model, OwnNode};
use super::render::model::ruleset_tables;
use super::render::rule::Criterion;
use super::render::{self, Dataplane, Input, RenderedTable, render};
use super::resources::{Kind, Resources, Spec};
use super::selector::Selector;
use super::settings::{self, sources};
use crate::files::SnapshotFiles;
use crate::host::{Host, Interface};
use crate::packet::Family;
use crate::ruleset::{Backend, Ruleset};
use compile::{Compiled, compile};
use observe::{Place, configured, generation, observe, places};
use splice::{compare, splice, sweep};

/// What Felix has to go by at one time.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// The resources that are known.
    pub resources: Resources,
    /// Felix's settings.
    pub settings: settings::Settings,
    /// Felix's name for this host.
    pub node: Option<String>,
    /// Felix's version, as it is told.
    pub version: Option<String>,
    /// The failsafe lists stay as the live rules have them, whatever the settings say.
    pub keeps_lists: bool,
}

impl Knowledge {
    /// Of a snapshot: its exported resources and the settings on disk.
    #[must_use]
    pub fn of(files: &SnapshotFiles) -> Self {
        let resources = Resources::of_files(files);
        let sources = sources::read(files);
        let version = version(&resources);
        Self { resources, settings: sources.disk.settings, node: sources.host, version, keeps_lists: false }
    }

    /// The same with the settings that the running Felix has read, where those are known.
    #[must_use]
    pub fn running(files: &SnapshotFiles) -> Self {
        let mut known = Self::of(files);
        if let Some(running) = sources::read(files).running {
            known.settings = running.settings;
        }
        known
    }

    /// Whether other settings than the failsafe lists make Felix write other rules than `other` does.
    #[must_use]
    pub fn shapes_otherwise(&self, other: &Self) -> bool {
        [Dataplane::Iptables, Dataplane::Nft].into_iter().any(|dataplane| {
            let of = |known: &Self| {
                let mut settings = configured(&known.settings, Generation::From332, dataplane);
                (settings.failsafe_in, settings.failsafe_out) = (Vec::new(), Vec::new());
                settings
            };
            of(self) != of(other)
        })
    }

    /// Settings that differ from `other`'s and change Felix's rules in ways that are not modelled: `VXLANEnabled = true`.
    #[must_use]
    pub fn beyond_the_model(&self, other: &Self) -> Vec<String> {
        let of = |known: &Self, name: &str| known.settings.get(name).map(|setting| setting.value);
        let changed = observe::NOT_MODELLED.into_iter().filter(|name| of(self, name) != of(other, name));
        let told = |name: &str| {
            let raw = self.settings.get(name).and_then(|setting| setting.raw);
            format!("{name} = {}", raw.unwrap_or_else(|| "its default".into()))
        };
        changed.map(told).collect()
    }

    /// Whether policies or host endpoints are among the resources.
    #[must_use]
    pub fn has_policy(&self) -> bool {
        self.resources.iter().any(|resource| matches!(resource.spec, Spec::Policy(_) | Spec::HostEndpoint(_)))
    }
}

/// The version that the cluster's information tells.
fn version(resources: &Resources) -> Option<String> {
    let information = resources.get(&Kind::ClusterInformation, None, "default")?;
    match &information.spec {
        Spec::ClusterInformation(information) => {
            information.calico_version.as_ref().map(|version| version.value.clone())
        }
        _ => None,
    }
}

/// What is there before the change.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The live rules; without any of Felix, its rules are rendered whole.
    pub ruleset: &'a Ruleset,
    /// The host around them.
    pub host: &'a Host,
    /// What Felix goes by now.
    pub known: &'a Knowledge,
}

/// The world after the change.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The rules.
    pub ruleset: Ruleset,
    /// How exactly what stands now is rendered from what is known now.
    pub fidelity: Fidelity,
    /// There were no rules of Felix: all are rendered.
    pub rendered_whole: bool,
    /// Version family of this host's Felix; `None` when the rules could be of several.
    pub generation: Option<Generation>,
    /// What of the answer is not known, each by its name. Empty: nothing is open.
    pub unknown: Vec<String>,
    /// Remarks for the reader.
    pub notes: Vec<String>,
}

/// Foretells the rules once Felix goes by `wanted`.
#[must_use]
pub fn predict(situation: &Situation<'_>, wanted: &Knowledge) -> Prediction {
    let (places, doubts) = places(situation.ruleset);
    let mut prediction = Prediction {
        ruleset: situation.ruleset.clone(),
        fidelity: Fidelity::default(),
        rendered_whole: places.is_empty(),
        generation: None,
        unknown: doubts,
        notes: Vec::new(),
    };
    prediction.generation = situation
        .known
        .version
        .as_deref()
        .and_then(Generation::of_version)
        .or_else(|| places.iter().find_map(|place| generation(situation.ruleset, place)));
    if wanted.settings.bool("BPFEnabled") == Some(true) {
        prediction.unknown.push("what Felix does in BPF mode".to_owned());
    }
    if let Some(fatal) = wanted.settings.fatal.first() {
        let text = format!(
            "{} = {:?} stops Felix ({}): the rules stay as they are",
            fatal.param,
            fatal.assignment.value,
            fatal.outcome.words()
        );
        prediction.notes.push(text);
        return prediction;
    }
    if places.is_empty() {
        whole(&mut prediction, situation, wanted);
    } else {
        for place in &places {
            in_place(&mut prediction, situation, wanted, place);
        }
    }
    prediction.unknown.sort();
    prediction.unknown.dedup();
    prediction.notes.sort();
    prediction.notes.dedup();
    prediction
}

/// Without rules of Felix on the host: everything is rendered, as after a first start.
fn whole(prediction: &mut Prediction, situation: &Situation<'_>, wanted: &Knowledge) {
    let newest = Generation::From332;
    let generation = *prediction.generation.get_or_insert(newest);
    let mode = wanted.settings.text("NFTablesMode").map(|mode| mode.to_ascii_lowercase());
    let nft = mode.as_deref() == Some("enabled");
    let (backend, dataplane) =
        if nft { (Backend::Nft, Dataplane::Nft) } else { (Backend::IptablesLegacy, Dataplane::Iptables) };
    let settings = configured(&wanted.settings, generation, dataplane);
    let model = model(wanted, generation, situation.host);
    let compiled = compile(&model, wanted.node.as_deref(), situation.host, &settings);
    prediction.notes.push(format!(
        "no rules of Felix are known: they are rendered as version {} writes them",
        generation.versions()
    ));
    let ipv6 = wanted.settings.bool("Ipv6Support") != Some(false);
    for family in [Family::Ipv4, Family::Ipv6].into_iter().filter(|family| ipv6 || *family == Family::Ipv4) {
        let Some(tables) = rendered(&compiled.input, family, prediction) else { continue };
        let made = ruleset_tables(&tables, backend, family);
        let first = prediction.ruleset.tables.len();
        let layers = observe::LAYERS.into_iter();
        let index = |layer: &'static str| {
            let at = made.iter().position(|table| nft || &*table.name == layer)?;
            Some((layer, first + at))
        };
        let place = Place { backend, family, tables: layers.filter_map(index).collect() };
        prediction.ruleset.tables.extend(made);
        let unknown =
            sets::add(&mut prediction.ruleset, &place, &tables, &compiled.selectors, Some(&model), situation.host);
        prediction.unknown.extend(unknown);
    }
    prediction.notes.extend(compiled.notes);
    prediction.unknown.extend(compiled.unknown);
}

/// The resources in order, with the automatic endpoints of this host's interfaces.
fn model<'r>(known: &'r Knowledge, generation: Generation, host: &Host) -> Model<'r> {
    let interfaces: Option<Vec<(&str, Vec<IpAddr>)>> = host.interfaces.as_ref().map(|all| {
        let addresses = |one: &Interface| one.addresses.iter().map(|address| address.address).collect();
        all.iter().map(|one| (&*one.name, addresses(one))).collect()
    });
    match (&known.node, &interfaces) {
        (Some(name), Some(interfaces)) => Model::of_node(&known.resources, generation, &OwnNode { name, interfaces }),
        _ => Model::of(&known.resources, generation),
    }
}

/// The change in one family of the live rules.
fn in_place(prediction: &mut Prediction, situation: &Situation<'_>, wanted: &Knowledge, place: &Place) {
    let known = situation.known;
    let dataplane = if place.backend == Backend::Nft { Dataplane::Nft } else { Dataplane::Iptables };
    let told = prediction.generation;
    let generation = told.unwrap_or(Generation::From332);
    let mut live = configured(&known.settings, generation, dataplane);
    observe(&mut live, situation.ruleset, place);
    let (old_model, new_model) = (model(known, generation, situation.host), model(wanted, generation, situation.host));
    let settings = changed(&live, known, wanted, generation, dataplane);
    let node = known.node.as_deref();
    let mut old = compile(&old_model, node, situation.host, &live);
    let mut new = compile(&new_model, wanted.node.as_deref().or(node), situation.host, &settings);
    // automatic endpoints, too: then an export without any policy tells all
    let explains = !old.input.endpoints.is_empty();
    if explains {
        let Some(tables) = rendered(&old.input, place.family, prediction) else { return };
        let fidelity = compare(situation.ruleset, place, &tables);
        let structure = overlay::explains(situation.ruleset, place, &tables);
        prediction.fidelity.add(fidelity);
        if structure {
            apply(prediction, situation, place, (&old_model, &old), (&new_model, &new));
            return;
        }
        prediction.unknown.push(format!(
            "how the resources given make the {} host endpoints' chains: they are not all of this host's, or not as old as its rules",
            place.family
        ));
    }
    // the endpoints are known by their chains alone; what is in them stays
    overlay::stand_in(&mut old.input, situation.ruleset, place);
    overlay::stand_in(&mut new.input, situation.ruleset, place);
    if !explains && let Some(tables) = rendered(&old.input, place.family, prediction) {
        let fidelity = compare(situation.ruleset, place, &tables);
        prediction.fidelity.add(overlay::without_endpoints(fidelity, situation.ruleset, place));
    }
    let (Some(before), Some(after)) =
        (rendered(&old.input, place.family, prediction), rendered(&new.input, place.family, prediction))
    else {
        return;
    };
    prediction.unknown.extend(splice(&mut prediction.ruleset, place, &before, &after));
    let edited = overlay::apply(&mut prediction.ruleset, place, (&old_model, &mut old), (&new_model, &mut new));
    if told.is_none() && edited.touched {
        prediction.unknown.push("Felix's version, which decides how the chains of policies are called".to_owned());
    }
    prediction.unknown.extend(edited.unknown);
    prediction.notes.extend(edited.notes);
    let known_new = wanted.has_policy().then_some(&new_model);
    let unknown =
        sets::add(&mut prediction.ruleset, place, &edited.rendered, &new.selectors, known_new, situation.host);
    prediction.unknown.extend(unknown);
    let notes = sets::follow(&mut prediction.ruleset, place, &selectors(&old, &new), &old_model, &new_model);
    prediction.notes.extend(notes);
}

/// The whole change, where what is known explains the live chains.
fn apply(
    prediction: &mut Prediction,
    situation: &Situation<'_>,
    place: &Place,
    (old_model, old): (&Model<'_>, &Compiled),
    (new_model, new): (&Model<'_>, &Compiled),
) {
    let (Some(before), Some(after)) =
        (rendered(&old.input, place.family, prediction), rendered(&new.input, place.family, prediction))
    else {
        return;
    };
    if prediction.generation.is_none() && before != after {
        prediction.unknown.push("Felix's version, which decides how the chains of policies are called".to_owned());
    }
    prediction.unknown.extend(splice(&mut prediction.ruleset, place, &before, &after));
    let gone: BTreeSet<String> =
        before.iter().flat_map(|table| table.chains.keys().map(|chain| place.name(table.name, chain))).collect();
    sweep(&mut prediction.ruleset, place, &gone);
    let unknown = sets::add(&mut prediction.ruleset, place, &after, &new.selectors, Some(new_model), situation.host);
    prediction.unknown.extend(unknown);
    let notes = sets::follow(&mut prediction.ruleset, place, &selectors(old, new), old_model, new_model);
    prediction.notes.extend(notes);
    prediction.notes.extend(new.notes.iter().cloned());
    prediction.unknown.extend(new.unknown.iter().filter(|text| !old.unknown.contains(text)).cloned());
}

fn selectors(old: &Compiled, new: &Compiled) -> BTreeMap<String, Selector> {
    old.selectors.iter().chain(&new.selectors).map(|(id, selector)| (id.clone(), selector.clone())).collect()
}

/// The rendered tables; `None` where Felix would stop at a rule, which is said.
fn rendered(input: &Input, family: Family, prediction: &mut Prediction) -> Option<Vec<RenderedTable>> {
    let tables = match render(input, family) {
        Ok(tables) => tables,
        Err(refused) => {
            prediction.notes.push(format!("{refused}: the rules stay as they are"));
            return None;
        }
    };
    if input.settings.dataplane == Dataplane::Nft
        && let Some(chain) = with_icmp_code(&tables)
    {
        prediction.unknown.push(format!(
            "whether {family} chain {chain} is ever written: it asks an ICMP type and a code, in words that stock nft \
             refuses, and then Felix writes nothing of {family} any more"
        ));
        return None;
    }
    Some(tables)
}

/// A chain with an ICMP type and code.
fn with_icmp_code(tables: &[RenderedTable]) -> Option<&str> {
    let coded = |criterion: &Criterion| matches!(criterion, Criterion::Icmp { code: Some(_), .. });
    let mut chains = tables.iter().flat_map(|table| &table.chains);
    let found = chains.find(|(_, rules)| rules.iter().flat_map(|rule| &rule.criteria).any(coded));
    found.map(|(name, _)| name.as_str())
}

/// What shapes the rules in the world to come: as the live rules show it, but for the settings that change.
fn changed(
    live: &render::Settings,
    known: &Knowledge,
    wanted: &Knowledge,
    generation: Generation,
    dataplane: Dataplane,
) -> render::Settings {
    let of = |known: &Knowledge| configured(&known.settings, generation, dataplane);
    let (old, new) = (of(known), of(wanted));
    let mut settings = live.clone();
    macro_rules! take {
        ($($field:ident),*) => { $( if old.$field != new.$field { settings.$field = new.$field.clone(); } )* };
    }
    take!(marks, filter_allow, mangle_allow, deny, endpoint_to_host, drop_invalid, flow_logs, workload_prefixes);
    take!(excluded_interfaces);
    take!(log_prefix, log_limit);
    if !wanted.keeps_lists {
        take!(failsafe_in, failsafe_out);
    }
    settings
}
