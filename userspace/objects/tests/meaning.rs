//! What the types mean: defaults, order, and what is never shown.
#![allow(clippy::unwrap_used, reason = "tests")]

use essaim_objects::{
    Cluster, Data, FailureAction, JoinTokens, Mode, Nanoseconds, Network, Node, NodeRole, PublishMode, Ratio,
    ResolutionMode, RestartCondition, Secret, Sensitive, Service, ServiceSpec, Task, TaskState, UpdateOrder,
    Version,
};
use serde_json::json;
use std::time::Duration;

fn service(spec: serde_json::Value) -> ServiceSpec {
    serde_json::from_value(spec).unwrap()
}

#[test]
fn task_states_have_swarms_numbers_in_order() {
    let numbers = TaskState::ALL.map(TaskState::number);
    assert_eq!(
        numbers,
        [0, 64, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 800, 832]
    );
    assert!(TaskState::ALL.is_sorted());
    for state in TaskState::ALL {
        assert_eq!(state.as_str().to_uppercase().parse(), Ok(state));
        assert_eq!(state.is_over(), state.number() > 512);
    }
    assert_eq!(
        "gone".parse::<TaskState>().unwrap_err().to_string(),
        "unknown task state \"gone\", expected one of new, pending, assigned, accepted, preparing, ready, starting, \
         running, complete, shutdown, failed, rejected, remove, orphaned"
    );
    // What stands for the default is no word that one could write.
    assert_eq!(
        "sideways".parse::<UpdateOrder>().unwrap_err().to_string(),
        "unknown UpdateOrder \"sideways\", expected one of stop-first, start-first"
    );
}

#[test]
fn defaults_are_swarms_and_are_not_written() {
    let spec = service(json!({"Name": "a"}));
    assert_eq!(spec.mode(), Mode::Replicated { replicas: 1 });
    let update = spec.update();
    assert_eq!(
        (update.parallelism, update.delay, update.monitor),
        (1, Nanoseconds(0), Nanoseconds::from_secs(5))
    );
    assert_eq!(
        (update.failure_action, update.order),
        (FailureAction::Pause, UpdateOrder::StopFirst)
    );
    assert_eq!(update, spec.rollback());
    let restart = spec.task_template.restart();
    assert_eq!(
        (restart.condition, restart.delay),
        (RestartCondition::Any, Nanoseconds::from_secs(5))
    );
    assert_eq!((restart.max_attempts, restart.window), (0, Nanoseconds(0)));
    assert_eq!(
        serde_json::to_value(&spec).unwrap(),
        json!({"Name": "a", "TaskTemplate": {}})
    );
    let spec = service(
        json!({"UpdateConfig": {"Order": "", "FailureAction": "", "Monitor": 0}, "EndpointSpec": {"Ports": [{}]}}),
    );
    assert_eq!(
        spec.update().parallelism,
        0,
        "given without it: all at once, as Docker has it"
    );
    assert_eq!(
        (spec.update().order, spec.update().monitor),
        (UpdateOrder::StopFirst, Nanoseconds::from_secs(5))
    );
    let endpoint = spec.endpoint_spec.unwrap();
    assert_eq!(
        (endpoint.mode(), endpoint.ports()[0].publish_mode()),
        (ResolutionMode::Vip, PublishMode::Ingress)
    );
}

#[test]
fn every_mode_is_told_apart() {
    for (given, mode, is_job, is_global) in [
        (
            json!({"Replicated": {"Replicas": 0}}),
            Mode::Replicated { replicas: 0 },
            false,
            false,
        ),
        (json!({"Global": {}}), Mode::Global, false, true),
        (json!({"GlobalJob": {}}), Mode::GlobalJob, true, true),
        (
            json!({"ReplicatedJob": {"MaxConcurrent": 3}}),
            Mode::ReplicatedJob {
                max_concurrent: 3,
                total_completions: 3,
            },
            true,
            false,
        ),
        (
            json!({"ReplicatedJob": {"TotalCompletions": 7}}),
            Mode::ReplicatedJob {
                max_concurrent: 1,
                total_completions: 7,
            },
            true,
            false,
        ),
        (json!({}), Mode::Replicated { replicas: 1 }, false, false),
    ] {
        let found = service(json!({"Mode": given})).mode();
        assert_eq!(
            (found, found.is_job(), found.is_global()),
            (mode, is_job, is_global)
        );
    }
}

#[test]
fn networks_of_old_clients_count_where_the_tasks_have_none() {
    let targets = |spec: &ServiceSpec| -> Vec<String> {
        spec.networks()
            .iter()
            .filter_map(|network| network.target.clone())
            .collect()
    };
    let old = service(json!({"Networks": [{"Target": "a"}]}));
    let new =
        service(json!({"Networks": [{"Target": "a"}], "TaskTemplate": {"Networks": [{"Target": "b"}]}}));
    assert_eq!(
        (targets(&old), targets(&new)),
        (vec!["a".to_owned()], vec!["b".to_owned()])
    );
}

#[test]
fn secrets_are_not_shown() {
    let secret: Secret = serde_json::from_value(
        json!({"ID": "et2fugbxwd4e48va1b03piw8v", "Spec": {"Name": "s", "Data": "aHVudGVyMg=="}}),
    )
    .unwrap();
    assert_eq!(
        secret.spec.data.as_ref().map(Data::as_bytes),
        Some(b"hunter2".as_slice())
    );
    assert!(!format!("{secret:?}").contains("hunter2") && !format!("{secret:?}").contains("104, 117"));
    let public = serde_json::to_string(&secret.to_public()).unwrap();
    assert!(
        public.contains("\"Name\":\"s\"") && !public.contains("Data"),
        "{public}"
    );
    let mut cluster: Cluster = serde_json::from_value(
        json!({"ID": "et2fugbxwd4e48va1b03piw8v", "Spec": {"CAConfig": {"SigningCAKey": "hunter2", "SigningCACert": "c"}}}),
    )
    .unwrap();
    cluster.join_tokens = Some(JoinTokens {
        worker: Some(Sensitive("hunter2".to_owned())),
        ..JoinTokens::default()
    });
    cluster
        .private
        .insert("root-key".to_owned(), b"hunter2".to_vec().into());
    assert!(!format!("{cluster:?}").contains("hunter2"), "{cluster:?}");
    let public = serde_json::to_value(cluster.to_public()).unwrap();
    assert_eq!(public.get("Private"), None);
    assert_eq!(public["Spec"]["CAConfig"], json!({"SigningCACert": "c"}));
    assert_eq!(
        public["JoinTokens"]["Worker"], "hunter2",
        "the API shows the tokens"
    );
}

#[test]
fn numbers_are_written_as_docker_writes_them() {
    assert_eq!(
        serde_json::to_string(&[Ratio(0.0), Ratio(1.0), Ratio(0.25)]).unwrap(),
        "[0,1,0.25]"
    );
    assert_eq!(
        serde_json::to_string(&[Version { index: 0 }, Version { index: 7 }]).unwrap(),
        r#"[{},{"Index":7}]"#
    );
    assert_eq!(Nanoseconds(-5).to_duration(), Duration::ZERO);
    assert_eq!(Nanoseconds::from(Duration::MAX), Nanoseconds(i64::MAX));
}

#[test]
fn what_must_be_there_is_asked_for() {
    for (error, says) in [
        (serde_json::from_str::<Node>("{}").map(drop), "missing field `ID`"),
        (
            serde_json::from_str::<Task>(r#"{"ID":null}"#).map(drop),
            "missing field `ID`",
        ),
        (
            serde_json::from_str::<Service>(r#"{"ID":"x"}"#).map(drop),
            "service id \"x\" is no identity",
        ),
        (
            serde_json::from_str::<ServiceSpec>("[]").map(drop),
            "expected a ServiceSpec object",
        ),
        (
            serde_json::from_str::<ServiceSpec>(r#"{"Mode":{"Replicated":{"Replicas":-1}}}"#).map(drop),
            "invalid value",
        ),
    ] {
        let found = error.unwrap_err().to_string();
        assert!(found.contains(says), "{found}");
    }
    let node: Node = serde_json::from_str(r#"{"ID":"8ndmfqyjknwbf6qu2vwspt9ci"}"#).unwrap();
    assert_eq!(node.spec.role(), NodeRole::Worker);
}

#[test]
fn subnets_are_read_from_their_strings() {
    let network: Network = serde_json::from_value(json!({
        "ID": "8ndmfqyjknwbf6qu2vwspt9ci",
        "DriverState": {"Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097"}},
        "IPAMOptions": {"Configs": [
            {"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1", "Range": "", "AuxiliaryAddresses": {"a": "10.0.1.9"}},
            {"Subnet": "fd00::/64"}, {"Subnet": "broken"}, {"Subnet": "10.1.0.0/24", "Gateway": "broken"}]},
    }))
    .unwrap();
    let subnets: Vec<_> = network.subnets().collect();
    assert_eq!((network.vni(), subnets.len()), (Some(4097), 2));
    assert_eq!(
        (subnets[0].range, subnets[0].gateway),
        (subnets[0].net, Some("10.0.1.1".parse().unwrap()))
    );
    assert_eq!((subnets[0].auxiliary.len(), subnets[1].gateway), (1, None));
}
