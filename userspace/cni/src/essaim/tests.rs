use super::*;
use essaim_protocol::{CniFault, CniRefusal};
use rscni_plugin::test_util::ArgsBuilder;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::Path;

/// Answers each call so, and remembers it.
struct Fake {
    answer: Box<dyn Fn() -> Result<Value, AskError>>,
    asked: RefCell<Vec<(String, Value)>>,
}

impl Ask for &Fake {
    fn ask(
        &self,
        socket: &Path,
        call: &str,
        body: Vec<u8>,
        _patience: Duration,
    ) -> Result<Vec<u8>, AskError> {
        assert_eq!(socket, Path::new("/run/essaim/cni.sock"));
        let body = serde_json::from_slice(&body).unwrap();
        self.asked.borrow_mut().push((call.to_owned(), body));
        (self.answer)().map(|answer| answer.to_string().into())
    }
}

fn fake(answer: impl Fn() -> Result<Value, AskError> + 'static) -> Fake {
    Fake {
        answer: Box::new(answer),
        asked: RefCell::default(),
    }
}

fn interface() -> Value {
    json!({ "mac": "02:42:0a:01:00:02", "mtu": 1450, "addresses": ["10.1.0.2/24"], "gateways": [] })
}

fn away() -> AskError {
    AskError::Away {
        socket: "/run/essaim/cni.sock".into(),
        source: std::io::ErrorKind::NotFound.into(),
    }
}

fn args(more: &Value) -> Args {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "conf", "type": "essaim-cni", "network": "app" });
    for (key, value) in more.as_object().unwrap() {
        conf[key] = value.clone();
    }
    let builder = ArgsBuilder::new().container_id("0123456789abcdef").unwrap();
    let builder = builder.netns("/run/netns/box").ifname("eth0").unwrap();
    builder.config(&conf.to_string()).unwrap().build().unwrap()
}

#[test]
fn each_step_is_one_call() {
    let fake = fake(|| Ok(interface()));
    let essaim = Essaim::new(&fake);
    let told = essaim.add(args(&json!({}))).unwrap();
    let before = json!({ "prevResult": serde_json::to_value(told).unwrap() });
    essaim.check(args(&before)).unwrap();
    essaim.del(args(&before)).unwrap();
    essaim
        .gc(args(&json!({
            "cni.dev/valid-attachments": [{ "containerID": "c9", "ifname": "eth3" }],
        })))
        .unwrap();
    essaim.status(args(&json!({}))).unwrap();
    let own = json!({ "config": "conf", "container": "0123456789abcdef", "interface": "eth0" });
    let expected = [
        (
            "/cni/add",
            json!({
                "attachment": own, "network": "app", "netns": "/run/netns/box", "names": [], "addresses": [],
                "is_default": false,
            }),
        ),
        (
            "/cni/check",
            json!({ "attachment": own, "netns": "/run/netns/box" }),
        ),
        ("/cni/del", own.clone()),
        (
            "/cni/gc",
            json!({ "config": "conf", "valid": [{ "config": "conf", "container": "c9", "interface": "eth3" }] }),
        ),
        ("/cni/status", json!({ "network": "app" })),
    ];
    let asked = fake.asked.borrow();
    for ((call, body), (expected_call, expected_body)) in asked.iter().zip(&expected) {
        assert_eq!((call.as_str(), body), (*expected_call, expected_body));
    }
    assert_eq!(asked.len(), expected.len());
}

#[test]
fn a_daemon_that_is_away_is_tried_again_and_says_so_when_it_is_asked() {
    let fake = fake(|| Err(away()));
    let essaim = Essaim::new(&fake);
    let gc = json!({ "cni.dev/valid-attachments": [] });
    let errors = [
        (essaim.add(args(&json!({}))).map(drop), 11),
        (essaim.del(args(&json!({}))), 11),
        (essaim.check(args(&json!({}))), 11),
        (essaim.gc(args(&gc)), 11),
        (essaim.status(args(&json!({}))), 50),
    ];
    for (found, code) in errors {
        let error = found.unwrap_err();
        assert_eq!(u32::from(&error), code, "{error}");
        assert!(
            error
                .details()
                .contains("does not answer at /run/essaim/cni.sock")
                && error.details().contains("essaim node"),
            "{error}"
        );
    }
}

#[test]
fn refusals_keep_their_code_and_a_stranger_is_told_apart() {
    let closed = fake(|| Err(CniRefusal::new(CniFault::Network, "network app is for services only").into()));
    let error = Essaim::new(&closed).add(args(&json!({}))).unwrap_err();
    assert_eq!(
        (u32::from(&error), error.details()),
        (7, "network app is for services only")
    );
    let error = Essaim::new(&closed).status(args(&json!({}))).unwrap_err();
    assert_eq!(u32::from(&error), 50);
    let stranger = fake(|| Ok(json!("hello")));
    let error = Essaim::new(&stranger).add(args(&json!({}))).unwrap_err();
    assert_eq!(u32::from(&error), 6, "{error}");
}

#[test]
fn garbage_is_collected_by_a_list_only() {
    let fake = fake(|| Ok(interface()));
    let error = Essaim::new(&fake).gc(args(&json!({}))).unwrap_err();
    assert_eq!(u32::from(&error), 7);
    assert!(error.details().contains("cni.dev/valid-attachments"), "{error}");
    assert_eq!(fake.asked.borrow().len(), 0);
}
