//! What is refused, where, and in which words.

use crate::{Files, file, load_all, problems};

#[test]
fn every_problem_of_a_file_is_told_at_once_with_its_place() {
    let text = "\
version: '2.4'
services:
  web:
    image: i
    prots: ['80:80']
    environment:
      A: true
    deploy:
      replicas: two
      resources: {limits: {memory: 1q}}
  db:
    extends: web
    image: ${DB:?say which}
nets:
";
    let expected = [
        "1.yml:1:10: version: found \"2.4\", expected a version of 3.0 to 3.13",
        "1.yml:5:5: services.web.prots: there is no such key; is ports meant?",
        "1.yml:7:10: services.web.environment.A: found the truth value true, expected text, a number or nothing; quotes make text of it",
        "1.yml:9:17: services.web.deploy.replicas: found \"two\", expected a whole number of 0 or more, without quotes",
        "1.yml:10:36: services.web.deploy.resources.limits.memory: found \"1q\", expected a size such as 64m, with b, k, m, g, t or p after the number",
        "1.yml:12:14: services.db.extends: extends is not supported; anchors and several files are",
        "1.yml:13:12: services.db.image: \"${DB:?say which}\": the variable DB must be set: say which",
        "1.yml:14:1: nets: there is no such key, expected one of version, services, networks, volumes, secrets, configs",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table with a row for each form")]
fn each_wrong_form_is_refused_where_it_stands() {
    // The lines of a service begin in line 4, column 5.
    let cases = [
        (
            "command: 'a \"b'",
            "4:14: services.web.command: found \"a \\\"b\", expected words as a shell reads them, with quotes that end",
        ),
        (
            "command: {a: b}",
            "4:14: services.web.command: found a mapping, expected text or a list",
        ),
        (
            "environment: x",
            "4:18: services.web.environment: found \"x\", expected a mapping, or a list of NAME=VALUE",
        ),
        (
            "environment: ['=x']",
            "4:18: services.web.environment: a name is empty, expected NAME=VALUE",
        ),
        (
            "env_file: gone.env",
            "4:15: services.web.env_file: the file /srv/app/gone.env cannot be read: entity not found",
        ),
        (
            "tty: 'yes'",
            "4:10: services.web.tty: found \"yes\", expected true or false, without quotes",
        ),
        (
            "deploy: {replicas: '3'}",
            "4:24: services.web.deploy.replicas: found \"3\", expected a whole number of 0 or more, without quotes",
        ),
        (
            "deploy: {replicas: -1}",
            "4:24: services.web.deploy.replicas: found the number -1, expected a whole number of 0 or more, without quotes",
        ),
        (
            "deploy: {replicas: 1.5}",
            "4:24: services.web.deploy.replicas: found the number 1.5, expected a whole number of 0 or more, without quotes",
        ),
        (
            "deploy: {mode: globl}",
            "4:20: services.web.deploy.mode: found \"globl\", expected replicated, global, replicated-job, global-job",
        ),
        (
            "deploy: {mode: global, replicas: 2}",
            "3:5: services.web.deploy.replicas: replicas can only be used with replicated or replicated-job mode",
        ),
        (
            "deploy: {endpoint_mode: dns}",
            "4:29: services.web.deploy.endpoint_mode: found \"dns\", expected vip or dnsrr",
        ),
        (
            "deploy: {update_config: {order: first}}",
            "4:37: services.web.deploy.update_config.order: found \"first\", expected start-first, stop-first",
        ),
        (
            "deploy: {update_config: {max_failure_ratio: 1.5}}",
            "4:49: services.web.deploy.update_config.max_failure_ratio: found the number 1.5, expected a share of 0 to 1, without quotes",
        ),
        (
            "deploy: {restart_policy: {condition: always}}",
            "4:42: services.web.deploy.restart_policy.condition: found \"always\", expected none, on-failure, any",
        ),
        (
            "restart: sometimes",
            "4:14: services.web.restart: found \"sometimes\", expected \"no\", always, unless-stopped or on-failure with as many attempts as follow a colon",
        ),
        (
            "restart: no",
            "4:14: services.web.restart: found the truth value false, expected text; quotes make it such",
        ),
        (
            "stop_grace_period: 10",
            "4:24: services.web.stop_grace_period: found the number 10, expected text; quotes make it such",
        ),
        (
            "stop_grace_period: -1s",
            "4:24: services.web.stop_grace_period: found \"-1s\", expected a span of 0 or more",
        ),
        (
            "ports: ['x:80']",
            "4:13: services.web.ports[0]: found \"x:80\", expected port numbers of 0 to 65535",
        ),
        (
            "ports: ['a.b:80:80']",
            "4:13: services.web.ports[0]: found \"a.b:80:80\", expected [ADDRESS:]PUBLISHED:TARGET with an IP address",
        ),
        (
            "ports: [{published: 80}]",
            "4:13: services.web.ports[0]: target is missing, expected a port of 1 to 65535, without quotes",
        ),
        (
            "ports: [{target: 80, published: '8080'}]",
            "4:37: services.web.ports[0].published: found \"8080\", expected a port of 0 to 65535, without quotes",
        ),
        (
            "ports: [{target: 80, mode: mesh}]",
            "4:32: services.web.ports[0].mode: found \"mesh\", expected ingress, host",
        ),
        (
            "ports: ['0-65535:80']",
            "4:12: services.web.ports: found 65536 ports, expected at most 20000",
        ),
        (
            "ports: 80",
            "4:12: services.web.ports: found the number 80, expected a list",
        ),
        (
            "volumes: ['a:b:c:d']",
            "4:15: services.web.volumes[0]: found \"a:b:c:d\", expected TARGET, SOURCE:TARGET or SOURCE:TARGET:OPTIONS",
        ),
        (
            "volumes: ['gone:/x']",
            "4:15: services.web.volumes: there is no volume \"gone\", the top-level volumes has none",
        ),
        (
            "volumes: ['/a:/b:nocopy']",
            "4:15: services.web.volumes[0]: the option nocopy in a mount of type bind",
        ),
        (
            "volumes: ['v:/b:shared']",
            "4:15: services.web.volumes[0]: the option shared in a mount of type volume",
        ),
        (
            "volumes: [/x, '/y:/x']",
            "4:19: services.web.volumes: the target /x is mounted twice",
        ),
        (
            "volumes: [{source: a, target: /b}]",
            "4:15: services.web.volumes[0]: type is missing, expected bind, volume or tmpfs",
        ),
        (
            "volumes: [{type: cluster, target: /b}]",
            "4:22: services.web.volumes[0].type: found \"cluster\", expected bind, volume, tmpfs",
        ),
        (
            "volumes: [{type: bind, target: /b}]",
            "4:15: services.web.volumes[0]: the source is missing, expected a path",
        ),
        (
            "volumes: [{type: bind, source: /a, target: /b, tmpfs: {size: 1}}]",
            "4:59: services.web.volumes[0].tmpfs: options of tmpfs in a mount of type bind",
        ),
        (
            "tmpfs: '/x:sise=1'",
            "4:12: services.web.tmpfs: found the option \"sise=1\", expected size=SIZE or mode=MODE",
        ),
        (
            "networks: [gone]",
            "4:16: services.web.networks: there is no network \"gone\", the top-level networks has none",
        ),
        (
            "networks: {default: {alias: [x]}}",
            "4:26: services.web.networks.default.alias: there is no such key; is aliases meant?",
        ),
        (
            "secrets: [gone]",
            "4:15: services.web.secrets: there is no secret \"gone\", the top-level secrets has none",
        ),
        (
            "configs: [{target: x}]",
            "4:15: services.web.configs[0]: source is missing, expected a name",
        ),
        (
            "secrets: [{source: a, mode: '0440'}]",
            "4:33: services.web.secrets[0].mode: found \"0440\", expected a mode such as 0440, without quotes",
        ),
        (
            "secrets: [{source: a, mode: '${OCTAL}'}]",
            "4:33: services.web.secrets[0].mode: found \"0440\", expected a mode such as 0440, without quotes",
        ),
        (
            "healthcheck: {test: [curl, x]}",
            "4:25: services.web.healthcheck.test: expected NONE, CMD or CMD-SHELL first in the list",
        ),
        (
            "healthcheck: {test: a, disable: true}",
            "3:5: services.web.healthcheck: test and disable are both given, expected only one of them",
        ),
        (
            "dns: [somewhere]",
            "4:10: services.web.dns: found \"somewhere\", expected an IP address",
        ),
        (
            "extra_hosts: [a]",
            "4:18: services.web.extra_hosts: found \"a\", expected NAME:ADDRESS",
        ),
        (
            "ulimits: {nofiles: 1}",
            "4:24: services.web.ulimits.nofiles: there is no such limit, expected one of core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack",
        ),
        (
            "ulimits: {nofile: {soft: 1}}",
            "4:23: services.web.ulimits.nofile: hard is missing",
        ),
        (
            "cap_add: ['a b']",
            "4:15: services.web.cap_add[0]: found \"a b\", expected a capability such as NET_ADMIN, or ALL",
        ),
        (
            "mem_limit: 1g",
            "4:16: services.web.mem_limit: set resource limits with deploy.resources",
        ),
        (
            "credential_spec: {file: x}",
            "4:22: services.web.credential_spec: it is of Windows",
        ),
        (
            "user: $1",
            "4:11: services.web.user: \"$1\": expected a variable such as ${NAME} after every $, or $$ for $ itself",
        ),
        ("labels: {a: $x-}", ""),
    ];
    for (service, expected) in cases {
        let expected: Vec<String> = Some(expected)
            .filter(|expected| !expected.is_empty())
            .map(|expected| format!("1.yml:{expected}"))
            .into_iter()
            .collect();
        assert_eq!(problems(&file(service, "")), expected, "{service}");
    }
}

#[test]
fn other_sections_are_checked_alike() {
    // They begin in line 4.
    let cases = [
        ("networks: []", "4:11: networks: found a list, expected a mapping"),
        (
            "networks: {a b: }",
            "4:12: networks.a b: the name \"a b\" has other characters than letters, digits, '.', '_' and '-'",
        ),
        (
            "networks: {net: {ipam: {config: [{subnet: x}]}}}",
            "4:43: networks.net.ipam.config[0].subnet: found \"x\", expected a subnet such as 10.1.0.0/24",
        ),
        (
            "networks: {net: {ipam: {config: [{gateway: 10.0.0.1}]}}}",
            "4:35: networks.net.ipam.config[0].gateway: there is no such key, expected one of subnet",
        ),
        (
            "networks: {net: {external: {name: a}, name: b}}",
            "4:28: networks.net.external: external.name and name are both given, expected only name",
        ),
        (
            "volumes: {v: {external: true, driver: x}}",
            "4:39: volumes.v.driver: external and driver are both given, expected only one of them",
        ),
        (
            "secrets: {s: {}}",
            "4:14: secrets.s: nothing says what is in it, expected file, driver or external",
        ),
        (
            "configs: {c: {}}",
            "4:14: configs.c: nothing says what is in it, expected file or external",
        ),
        (
            "configs: {c: {driver: x, file: y}}",
            "4:15: configs.c.driver: there is no such key, expected one of name, file, external, labels, template_driver",
        ),
        (
            "secrets: {s: {driver: x, file: y}}",
            "4:32: secrets.s.file: driver and file are both given, expected only one of them",
        ),
        (
            "secrets: {s: {file: gone}}",
            "4:21: secrets.s.file: the file /srv/app/gone cannot be read: entity not found",
        ),
        (
            "configs: {s: }",
            "4:12: configs.s: found nothing, expected a mapping",
        ),
        (
            "version: 3.8",
            "4:10: version: found the number 3.8, expected text; quotes make it such",
        ),
        (
            "version: '3.14'",
            "4:10: version: found \"3.14\", expected a version of 3.0 to 3.13",
        ),
    ];
    for (section, expected) in cases {
        let found = problems(&format!("{}{section}\n", file("", "")));
        // A mapping that is none is told once for each thing that is missed in it.
        assert_eq!(
            found.first().map(String::as_str),
            Some(format!("1.yml:{expected}").as_str()),
            "{section}"
        );
    }
    assert_eq!(
        problems("services: {web: {build: .}}\n"),
        ["1.yml:1:17: services.web: image is missing; images are not built here"]
    );
    assert_eq!(
        problems("services:\n"),
        ["1.yml:1:9: services: found nothing, expected a mapping"]
    );
    assert_eq!(problems("- a\n"), ["1.yml:1:1: found a list, expected a mapping"]);
}

#[test]
fn a_file_of_variables_is_told_of_by_its_line() {
    let files = Files::of(&[("/srv/app/bad.env", "A=1\nB C=2\n")]);
    let problems = load_all(&[&file("env_file: bad.env", "")], &files).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "1.yml:4:15: services.web.env_file: the file /srv/app/bad.env: line 2: the name has spaces in it"
    );
}

#[test]
fn what_has_no_effect_is_listed_and_said() {
    let text = file(
        "build: .\nlinks: [db]\ndepends_on: [db]\nprivileged: true\ncontainer_name: x\nexpose: [80]\nnetworks: {default: {ipv4_address: 1.2.3.4}}\n\
         ports: ['127.0.0.1:80:80']\nvolumes: ['/a:/b:z']\nlabels: {a: $NOT_SET}",
        "networks: {out: {external: {name: x}}}\n",
    );
    let loaded = load_all(&[&text], &Files::none()).unwrap();
    assert_eq!(
        loaded.unsupported,
        ["build", "depends_on", "ipv4_address", "links", "privileged"]
    );
    let deprecated: Vec<_> = loaded.deprecated.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(deprecated, ["container_name", "expose"]);
    let words: Vec<_> = loaded.words.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "1.yml:11:13: services.web.ports[0]: the address 127.0.0.1 is ignored: the port is open at every address",
            "1.yml:12:15: services.web.volumes[0]: the option z has no meaning here",
            "1.yml:13:17: services.web.labels.a: the variable NOT_SET is not set; it is taken as empty",
            "1.yml:14:28: networks.out.external: external.name is deprecated in favor of name",
        ]
    );
}
