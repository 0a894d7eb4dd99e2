//! How a service is deployed.

use super::Loader;
use crate::model::{Deploy, DeployMode};
use crate::read::Cursor;
use essaim_objects::written::Cpus;
use essaim_objects::{
    DiscreteResource, GenericResource, NodeResources, Ratio, ResourceLimits, RestartCondition, RestartPolicy,
    UpdateConfig,
};

impl Loader<'_> {
    pub(super) fn deploy(&mut self, cursor: &Cursor<'_>) -> Deploy {
        let mut deploy = Deploy::default();
        if cursor.is_null() {
            return deploy;
        }
        let known = [
            "mode",
            "replicas",
            "endpoint_mode",
            "labels",
            "update_config",
            "rollback_config",
            "resources",
            "restart_policy",
            "placement",
        ];
        let fields = cursor.fields(&mut self.findings, &known, false);
        let findings = &mut self.findings;
        if let Some(mode) = fields.get("mode") {
            let known = DeployMode::ALL.map(DeployMode::as_str);
            let found = mode.as_text().filter(|text| !text.is_empty());
            deploy.mode =
                found.and_then(|text| DeployMode::ALL.into_iter().find(|mode| mode.as_str() == text));
            if deploy.mode.is_none() {
                mode.refuse(findings, &known.join(", "));
            }
        }
        deploy.replicas = fields.count("replicas", findings);
        if let Some(mode) = fields.get("endpoint_mode") {
            deploy.endpoint_mode = mode.parsed(findings, |text| {
                let mode = text.to_ascii_lowercase();
                let known = ["vip", "dnsrr"].contains(&mode.as_str());
                let mode = mode.parse().ok().filter(|_| known);
                mode.ok_or_else(|| essaim_objects::written::Expected::new("vip or dnsrr"))
            });
        }
        deploy.labels = fields.labels("labels", findings);
        deploy.update = fields.get("update_config").map(|update| self.update(update));
        deploy.rollback = fields.get("rollback_config").map(|update| self.update(update));
        deploy.restart = fields
            .get("restart_policy")
            .map(|policy| self.restart_policy(policy));
        if let Some(resources) = fields.get("resources") {
            self.resources(resources, &mut deploy);
        }
        if let Some(placement) = fields.get("placement") {
            let known = ["constraints", "preferences", "max_replicas_per_node"];
            let fields = placement.fields(&mut self.findings, &known, false);
            deploy.constraints = fields.texts("constraints", &mut self.findings);
            for preference in fields.items("preferences", &mut self.findings) {
                let fields = preference.fields(&mut self.findings, &["spread"], false);
                match fields.get("spread") {
                    Some(spread) => deploy.preferences.extend(spread.text(&mut self.findings)),
                    None => preference.problem(&mut self.findings, "spread is missing"),
                }
            }
            deploy.max_replicas = fields.count("max_replicas_per_node", &mut self.findings);
        }
        deploy
    }

    fn update(&mut self, cursor: &Cursor<'_>) -> UpdateConfig {
        let known = [
            "parallelism",
            "delay",
            "failure_action",
            "monitor",
            "max_failure_ratio",
            "order",
        ];
        let findings = &mut self.findings;
        let fields = cursor.fields(findings, &known, false);
        UpdateConfig {
            parallelism: fields.count("parallelism", findings),
            delay: fields.span("delay", findings),
            failure_action: fields
                .get("failure_action")
                .and_then(|action| action.word_of(findings, &["pause", "continue", "rollback"])),
            monitor: fields.span("monitor", findings),
            max_failure_ratio: fields
                .get("max_failure_ratio")
                .and_then(|share| share.share(findings))
                .map(Ratio),
            order: fields
                .get("order")
                .and_then(|order| order.word_of(findings, &["start-first", "stop-first"])),
            ..UpdateConfig::default()
        }
    }

    fn restart_policy(&mut self, cursor: &Cursor<'_>) -> RestartPolicy {
        let findings = &mut self.findings;
        let known = ["condition", "delay", "max_attempts", "window"];
        let fields = cursor.fields(findings, &known, false);
        RestartPolicy {
            condition: fields
                .get("condition")
                .and_then(|condition| condition.word_of(findings, &["none", "on-failure", "any"])),
            delay: fields.span("delay", findings),
            max_attempts: fields.count("max_attempts", findings),
            window: fields.span("window", findings),
            ..RestartPolicy::default()
        }
    }

    /// `restart:` of a service: `no`, `always`, `unless-stopped` or `on-failure[:ATTEMPTS]`.
    pub(super) fn restart(&mut self, cursor: &Cursor<'_>) -> Option<RestartPolicy> {
        let text = cursor.text(&mut self.findings)?;
        let (word, attempts) = match text.split_once(':') {
            Some((word, attempts)) => (word, Some(attempts.parse::<u64>())),
            None => (text.as_str(), None),
        };
        let condition = match (word, &attempts) {
            ("no" | "", None) => return None,
            ("always" | "unless-stopped", None) => RestartCondition::Any,
            ("on-failure", None | Some(Ok(_))) => RestartCondition::OnFailure,
            _ => {
                cursor.refuse(
                    &mut self.findings,
                    "\"no\", always, unless-stopped or on-failure with as many attempts as follow a colon",
                );
                return None;
            }
        };
        Some(RestartPolicy {
            condition: Some(condition),
            max_attempts: attempts.and_then(Result::ok).filter(|attempts| *attempts != 0),
            ..RestartPolicy::default()
        })
    }

    fn resources(&mut self, cursor: &Cursor<'_>, deploy: &mut Deploy) {
        let findings = &mut self.findings;
        let fields = cursor.fields(findings, &["limits", "reservations"], false);
        if let Some(limits) = fields.get("limits") {
            let fields = limits.fields(findings, &["cpus", "memory", "pids"], false);
            deploy.limits = Some(ResourceLimits {
                nano_cpus: fields
                    .get("cpus")
                    .and_then(|cpus| cpus.parsed(findings, str::parse::<Cpus>))
                    .map(|cpus| cpus.0),
                memory_bytes: fields.get("memory").and_then(|memory| memory.size(findings)),
                pids: fields
                    .get("pids")
                    .and_then(|pids| pids.whole(findings, "a whole number, without quotes")),
                ..ResourceLimits::default()
            });
        }
        if let Some(reservations) = fields.get("reservations") {
            let fields = reservations.fields(findings, &["cpus", "memory", "generic_resources"], false);
            let mut generic = Vec::new();
            for resource in fields.items("generic_resources", findings) {
                let fields = resource.fields(findings, &["discrete_resource_spec"], false);
                let Some(discrete) = fields.get("discrete_resource_spec") else {
                    resource.problem(findings, "discrete_resource_spec is missing");
                    continue;
                };
                let fields = discrete.fields(findings, &["kind", "value"], false);
                let discrete = DiscreteResource {
                    kind: fields.text("kind", findings),
                    value: fields.get("value").and_then(|value| {
                        value.whole::<i64>(findings, "a whole number of 0 or more, without quotes")
                    }),
                    ..DiscreteResource::default()
                };
                generic.push(GenericResource {
                    discrete: Some(discrete),
                    ..GenericResource::default()
                });
            }
            deploy.reservations = Some(NodeResources {
                nano_cpus: fields
                    .get("cpus")
                    .and_then(|cpus| cpus.parsed(findings, str::parse::<Cpus>))
                    .map(|cpus| cpus.0),
                memory_bytes: fields.get("memory").and_then(|memory| memory.size(findings)),
                generic_resources: (!generic.is_empty()).then_some(generic),
                ..NodeResources::default()
            });
        }
    }
}
