use super::*;
use crate::fixture::{cluster, uplink};

#[test]
fn the_table_is_replaced_in_one_script_and_every_rule_is_marked() {
    let ruleset = Ruleset::of(&cluster(), &[uplink()]);
    let script = ruleset.script();
    assert!(
        script.starts_with("table inet essaim\ndelete table inet essaim\ntable inet essaim {\n"),
        "{script}"
    );
    for rule in [
        "udp dport 4789 notrack",
        "ip saddr { 10.2.0.0/24 } drop",
        "oifgroup 58714 ct state established,related accept",
        "ip saddr { 10.0.0.0/24, 10.1.0.0/24 } ip daddr != { 10.0.0.0/24, 10.1.0.0/24, 10.2.0.0/24 } \
         oifname { \"up0\" } meta l4proto { tcp, udp, sctp } masquerade to :61000-65535",
        "ip6 saddr { fd00::/64, fd00:1::/64 } ip6 daddr != { fd00::/64, fd00:1::/64 } oifname { \"up0\" } masquerade",
    ] {
        assert!(
            script.contains(&format!("{rule} comment \"{}\"\n", ruleset.mark)),
            "{rule} is missing in\n{script}"
        );
    }
}

#[test]
fn a_change_of_any_rule_changes_the_mark() {
    let mut other = cluster();
    other.vxlan_port = 8472;
    assert_ne!(
        Ruleset::of(&cluster(), &[uplink()]).mark,
        Ruleset::of(&other, &[uplink()]).mark
    );
}

#[test]
fn a_rule_that_is_missing_foreign_or_of_another_revision_is_noticed() {
    let ruleset = Ruleset::of(&cluster(), &[uplink()]);
    let rules: usize = ruleset.chains.iter().map(|(_, rules)| rules.len()).sum();
    let holding = |table| ObservedFirewall {
        table,
        ..ObservedFirewall::default()
    };
    let whole = vec![ruleset.mark.clone(); rules];
    assert!(ruleset.is_met_by(&holding(whole.clone())));
    assert!(!ruleset.is_met_by(&holding(whole[1..].to_vec())));
    let mut foreign = whole.clone();
    foreign[0] = String::new();
    assert!(!ruleset.is_met_by(&holding(foreign)));
    assert!(!ruleset.is_met_by(&ObservedFirewall::default()));
}

#[test]
fn without_uplinks_nothing_is_masqueraded() {
    assert!(!Ruleset::of(&cluster(), &[]).script().contains("masquerade"));
}

#[test]
fn dockers_chain_gets_what_is_missing_and_loses_what_is_old() {
    let old = MarkedRule {
        handle: 12,
        mark: "essaim-0000000000000000".to_owned(),
    };
    let rules = DockerUserRules::missing(&cluster(), Family::Ip, &[old]).unwrap();
    let script = rules.script();
    assert!(
        script.starts_with("delete rule ip filter DOCKER-USER handle 12\n"),
        "{script}"
    );
    assert!(
        script.contains("insert rule ip filter DOCKER-USER ip saddr 10.1.0.0/24 accept comment"),
        "{script}"
    );
    assert!(
        !script.contains("10.2.0.0/24"),
        "an internal network has no business there\n{script}"
    );
    let now: Vec<MarkedRule> = (0..rules.rules.len() as u64)
        .map(|handle| MarkedRule {
            handle,
            mark: rules.mark.clone(),
        })
        .collect();
    assert_eq!(DockerUserRules::missing(&cluster(), Family::Ip, &now), None);
}
