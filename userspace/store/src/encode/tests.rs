use super::*;
use crate::samples::{Lab, cluster, config, network, node, secret, service, targets, task, time};
use serde_json::json;

fn lab() -> Lab {
    let mut lab = Lab::default();
    let mut transaction = Transaction::new();
    transaction
        .create(cluster(&[], 24))
        .create(network(1, "a", json!({"IPv6Enabled": true})));
    transaction
        .create(network(2, "ingress", json!({"Ingress": true})))
        .create(node(1));
    transaction.create(secret(1, "s")).create(config(1, "c"));
    let web = service(
        1,
        "web",
        json!({"New": 0.1, "UpdateConfig": {"MaxFailureRatio": (0.1 + 0.2)},
            "TaskTemplate": {"Networks": targets(&[1]), "ContainerSpec": {"Image": "i"}}, "EndpointSpec": {"Ports": [{"TargetPort": 80}]}}),
    );
    for bits in 1..=5 {
        let mut task = task(bits, &web, bits);
        task.node_id = Some(node(1).id);
        if bits == 1 {
            transaction.create(web.clone());
        }
        transaction.create(task);
    }
    lab.commit(transaction).unwrap();
    lab.remove(lab.task(5).id).unwrap();
    lab
}

#[test]
fn a_view_reads_back_as_it_was() {
    let lab = lab();
    let bytes = lab.view().encode().unwrap();
    let read = View::decode(&bytes).unwrap();
    assert_eq!(read, *lab.view());
    assert_eq!(read.encode().unwrap(), bytes);
    assert_eq!(crate::audit(&read), []);
    let [first, second] = [1, 2].map(|bits| {
        read.task(essaim_objects::TaskId::from_bits(bits))
            .unwrap()
            .spec
            .clone()
    });
    assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first, &lab_spec(&read)));
}

fn lab_spec(view: &View) -> Arc<TaskSpec> {
    view.services().next().unwrap().spec.task_template.clone()
}

#[test]
fn equal_views_give_equal_bytes_however_they_came_about() {
    let lab = lab();
    let mut copy = lab.clone();
    // A spec of its own for a task must not show.
    let mut alone = copy.task(1);
    alone.spec = Arc::new(alone.spec.as_ref().clone());
    copy.store = Store::from({
        let mut view = copy.view().clone();
        view.tasks.insert(alone.id, Arc::new(alone));
        view
    });
    assert_eq!(copy.view(), lab.view());
    assert_eq!(copy.view().encode().unwrap(), lab.view().encode().unwrap());
}

#[test]
fn a_task_that_outlived_its_service_and_node_is_kept() {
    let mut lab = lab();
    let mut transaction = Transaction::new();
    transaction.remove(lab.service(1)).remove(lab.node(1));
    lab.store.apply(9, &transaction, time(9)).unwrap();
    assert_eq!(View::decode(&lab.view().encode().unwrap()).unwrap(), *lab.view());
    assert_eq!(
        crate::audit(lab.view()).len(),
        8,
        "four tasks without service and node"
    );
}

#[test]
fn a_transaction_reads_back_as_it_was() {
    let lab = lab();
    for transaction in &lab.log {
        let bytes = transaction.encode().unwrap();
        assert_eq!(Transaction::decode(&bytes).unwrap(), *transaction);
        assert_eq!(Transaction::decode(&bytes).unwrap().encode().unwrap(), bytes);
    }
    let mut all = Transaction::new();
    all.update(lab.task(1)).update(lab.service(1)).remove(lab.task(2));
    assert_eq!(Transaction::decode(&all.encode().unwrap()).unwrap(), all);
}

#[test]
fn tasks_of_one_spec_write_it_once() {
    let big = service(
        1,
        "s",
        json!({"TaskTemplate": {"ContainerSpec": {"Env": ["X=".to_owned() + &"x".repeat(10_000)]}}}),
    );
    let mut transaction = Transaction::new();
    for bits in 1..=200 {
        transaction.create(task(bits, &big, bits));
    }
    assert!(transaction.encode().unwrap().len() < 200 * 400 + 10_000);
}

#[test]
fn a_transaction_has_a_greatest_size() {
    let of = |length: usize| {
        let mut transaction = Transaction::new();
        let mut big = secret(1, "s");
        big.spec.data = Some(vec![0; length].into());
        transaction.create(big);
        transaction.encode()
    };
    assert!(of(499_999).is_ok(), "the largest secret fits");
    let error = of(1_200_000).unwrap_err().to_string();
    assert!(error.ends_with("expected at most 1572864: split it"), "{error}");
}

#[test]
fn what_is_torn_or_corrupt_is_told() {
    let lab = lab();
    for (bytes, decode) in [
        (
            lab.view().encode().unwrap(),
            (|bytes| View::decode(bytes).map(drop)) as fn(&[u8]) -> _,
        ),
        (lab.log[0].encode().unwrap(), |bytes| {
            Transaction::decode(bytes).map(drop)
        }),
    ] {
        let length = bytes.len();
        assert!(decode(&bytes).is_ok());
        for end in (0..HEADER + 9).chain([length / 2, length - 1]) {
            assert!(
                matches!(decode(&bytes[..end]), Err(DecodeError::Torn { .. })),
                "{end}"
            );
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        let error = decode(&longer).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{} bytes, expected {length}: it is torn", length + 1)
        );
        for (at, is_expected) in [
            (
                0,
                (|error| matches!(error, DecodeError::Magic { .. })) as fn(&DecodeError) -> bool,
            ),
            (8, |error| matches!(error, DecodeError::Format { .. })),
            (12, |error| matches!(error, DecodeError::Checksum { .. })),
            (16, |error| matches!(error, DecodeError::Torn { .. })),
            (length - 1, |error| matches!(error, DecodeError::Checksum { .. })),
        ] {
            let mut corrupt = bytes.clone();
            corrupt[at] ^= 1;
            let error = decode(&corrupt).unwrap_err();
            assert!(is_expected(&error), "{at}: {error}");
        }
    }
    let error = View::decode(&lab.log[0].encode().unwrap())
        .unwrap_err()
        .to_string();
    assert_eq!(error, "starts with \"essaim-t\", expected \"essaim-s\"");
    let garbage = framed(SNAPSHOT, b"{");
    assert!(matches!(View::decode(&garbage), Err(DecodeError::Json(_))));
    let dangling = framed(
        TRANSACTION,
        format!(
            r#"{{"specs":[],"changes":[{{"CreateTask":{{"task":{{"ID":"{}"}},"spec":3}}}}]}}"#,
            lab.task(1).id
        )
        .as_bytes(),
    );
    assert!(matches!(
        Transaction::decode(&dangling),
        Err(DecodeError::Spec { found: 3, count: 0 })
    ));
}

#[test]
fn objects_that_do_not_go_together_are_no_snapshot() {
    let lab = lab();
    let payload = lab.view().encode().unwrap().split_off(HEADER);
    let text = String::from_utf8(payload).unwrap();
    let address = lab.addresses(1).swap_remove(0);
    let twin = text.replace(&lab.addresses(2)[0], &address);
    assert_ne!(twin, text);
    let error = View::decode(&framed(SNAPSHOT, twin.as_bytes())).unwrap_err();
    assert!(
        matches!(error, DecodeError::Inconsistent(Conflict::Taken { .. })),
        "{error}"
    );
}
