//! Several files, and what is printed of them.

use crate::{Files, load_all};
use serde_json::json;

const BASE: &str = "
version: '3.8'
services:
  web:
    image: one
    command: [a]
    environment: {A: 1, B: 2}
    ports: ['8080:80', '8082:82']
    volumes: ['/a:/x', '/b:/y']
    secrets: [s]
    cap_add: [CHOWN]
    dns: 1.1.1.1
    ulimits: {nofile: 1, nproc: 2}
    tty: true
    logging: {driver: syslog, options: {a: 1}}
    networks: {back: {aliases: [one]}, front: {aliases: [two]}}
    healthcheck: {test: a, interval: 1s}
    deploy:
      replicas: 3
      labels: {l: 1}
      placement: {constraints: [one]}
      update_config: {parallelism: 2, delay: 1s}
      resources: {limits: {cpus: '1', memory: 1m}}
  kept: {image: k}
networks:
  back: {driver: overlay, attachable: true}
  front:
secrets:
  s: {file: one}
";

const OVER: &str = "
version: '3.8'
services:
  web:
    image: two
    command: [b]
    environment: [B=3, C=4]
    ports: ['8081:81', '8080:80']
    volumes: ['/c:/x']
    secrets: [{source: s, mode: 0400}]
    cap_add: [KILL]
    dns: 2.2.2.2
    ulimits: {nofile: {soft: 3, hard: 4}}
    tty: false
    logging: {options: {b: 2}}
    networks: {back: {aliases: [three]}, front: }
    healthcheck: {test: b}
    deploy:
      replicas: 0
      labels: [m=2]
      placement: {constraints: [two]}
      update_config: {parallelism: 1}
      resources: {limits: {memory: 2m}}
  more: {image: m}
networks:
  back: {internal: true}
secrets:
  s: {file: two}
";

#[test]
fn a_later_file_goes_before_an_earlier_one() {
    let files = Files::of(&[("/srv/app/one", "1"), ("/srv/app/two", "2")]);
    let loaded = load_all(&[BASE, OVER], &files).unwrap();
    let plan = loaded.stack.plan("s", &files.around()).unwrap();
    let names: Vec<_> = plan
        .services
        .iter()
        .map(essaim_objects::ServiceSpec::name)
        .collect();
    assert_eq!(names, ["s_kept", "s_more", "s_web"]);
    let web = json!(plan.services[2]);
    let container = &web["TaskTemplate"]["ContainerSpec"];
    let expected = [
        (&container["Image"], json!("two")),
        (&container["Args"], json!(["b"])),
        (&container["Env"], json!(["A=1", "B=3", "C=4"])),
        (&container["CapabilityAdd"], json!(["CAP_CHOWN", "CAP_KILL"])),
        (
            &container["DNSConfig"]["Nameservers"],
            json!(["1.1.1.1", "2.2.2.2"]),
        ),
        (&container["TTY"], json!(null)),
        (
            &container["Healthcheck"],
            json!({"Test": ["CMD-SHELL", "b"], "Interval": 1_000_000_000}),
        ),
        (&container["Secrets"][0]["File"]["Mode"], json!(0o400)),
        (&container["Secrets"][1], json!(null)),
        (
            &container["Ulimits"],
            json!([{"Name": "nofile", "Soft": 3, "Hard": 4}, {"Name": "nproc", "Soft": 2, "Hard": 2}]),
        ),
        (
            &container["Mounts"],
            json!([{"Type": "bind", "Source": "/c", "Target": "/x"}, {"Type": "bind", "Source": "/b", "Target": "/y"}]),
        ),
        (
            &web["TaskTemplate"]["LogDriver"],
            json!({"Name": "syslog", "Options": {"a": "1", "b": "2"}}),
        ),
        (
            &web["TaskTemplate"]["Networks"],
            json!([{"Target": "s_back", "Aliases": ["three", "web"]}, {"Target": "s_front", "Aliases": ["two", "web"]}]),
        ),
        (
            &web["TaskTemplate"]["Placement"]["Constraints"],
            json!(["one", "two"]),
        ),
        (
            &web["TaskTemplate"]["Resources"]["Limits"],
            json!({"NanoCPUs": 1_000_000_000, "MemoryBytes": 2_097_152}),
        ),
        (&web["Mode"], json!({"Replicated": {"Replicas": 0}})),
        (
            &web["UpdateConfig"],
            json!({"Parallelism": 1, "Delay": 1_000_000_000, "MaxFailureRatio": 0, "Order": ""}),
        ),
        (&web["Labels"]["l"], json!("1")),
        (&web["Labels"]["m"], json!("2")),
        (&json!(plan.secrets[0])["Data"], json!("Mg==")),
    ];
    for (found, expected) in expected {
        assert_eq!(*found, expected);
    }
    let published: Vec<_> = web["EndpointSpec"]["Ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["PublishedPort"].as_u64().unwrap())
        .collect();
    assert_eq!(published, [8080, 8081, 8082]);
    // A network is replaced whole.
    let back = json!(plan.networks[0]);
    assert_eq!(
        (&back["Internal"], &back["Attachable"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn another_driver_of_logs_takes_no_options_along() {
    let first = "services: {web: {image: i, logging: {driver: a, options: {x: 1}}}}";
    let second = "services: {web: {logging: {driver: b}}}";
    let files = Files::none();
    let plan = load_all(&[first, second], &files)
        .unwrap()
        .stack
        .plan("s", &files.around())
        .unwrap();
    assert_eq!(
        json!(plan.services[0])["TaskTemplate"]["LogDriver"],
        json!({"Name": "b"})
    );
}

#[test]
fn problems_name_the_file_and_versions_must_agree() {
    let files = Files::none();
    let found = |first: &str, second: &str| load_all(&[first, second], &files).unwrap_err().to_string();
    assert_eq!(
        found("services: {web: {image: 1}}", "services:\n  web: {imge: i}\n"),
        "1.yml:1:25: services.web.image: found the number 1, expected text; quotes make it such\n\
         2.yml:2:9: services.web.imge: there is no such key; is image meant?"
    );
    assert_eq!(
        found("version: '3.8'\nservices: {}\n", "services: {}\n"),
        "2.yml:1:1: version: no version, but the first file has version 3.8"
    );
    assert_eq!(
        found("version: '3'\n", "version: '3.8'\n"),
        "2.yml:1:1: version: version 3.8, but the first file has version 3"
    );
}

#[test]
fn what_is_printed_reads_back_as_it_was() {
    let files = Files::of(&[
        ("/srv/app/one", "1"),
        ("/srv/app/two", "2"),
        ("/srv/app/s1.txt", "s"),
        ("/srv/app/c1.txt", "c"),
    ]);
    let odd = "
x-own: {a: [1, 'yes', null, 1.5, 2.0]}
services:
  web:
    image: i
    command: ['yes', '0440', '$$HOME', 'a: b', '# x', '', '-', \"l\\nt\\te\\u0007\\u2028\", 'é\"\\']
    environment: {A: '$$$SET', B: }
    stop_grace_period: 1h1m1.5s
    networks: {default: }
    deploy: {update_config: {max_failure_ratio: 1}, resources: {limits: {cpus: '0.25'}}}
";
    let long = format!(
        "services: {{web: {{image: i, labels: ['{}=1']}}}}",
        "x".repeat(2000)
    );
    for texts in [
        &[BASE, OVER][..],
        &[odd],
        &[include_str!("stack.yml")],
        &[&long],
        &["services: {}"],
    ] {
        let first = load_all(texts, &files).unwrap().stack;
        let printed = first.to_yaml();
        let second = match load_all(&[&printed], &files) {
            Ok(loaded) => loaded.stack,
            Err(problems) => panic!("{printed}\n{problems}"),
        };
        assert_eq!(second.to_yaml(), printed);
        let around = files.around();
        assert_eq!(
            second.plan("s", &around).unwrap(),
            first.plan("s", &around).unwrap(),
            "{printed}"
        );
    }
}

#[test]
fn what_is_printed_is_plain() {
    let text = "services:\n  web: {image: 'i:1', command: a b, ports: ['80:80'], environment: {A: $SET, B: }, deploy: {replicas: 2}}\n";
    let expected = "\
services:
  web:
    command:
      - a
      - b
    deploy:
      replicas: 2
    environment:
      A: value
      B:
    image: \"i:1\"
    ports:
      - \"80:80/tcp\"
";
    assert_eq!(
        load_all(&[text], &Files::none()).unwrap().stack.to_yaml(),
        expected
    );
}
