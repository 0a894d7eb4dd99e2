use super::*;
use proptest::prelude::*;

fn context() -> TemplateContext {
    let service = serde_json::from_str(
        r#"{"ID":"0zvf1sfisvwy5zdptk3gq7fbr","Spec":{"Name":"web","Labels":{"a":"1","b.c":"2"}}}"#,
    );
    let node = serde_json::from_str(
        r#"{"ID":"8ndmfqyjknwbf6qu2vwspt9ci","Description":{"Hostname":"n1","Platform":{"Architecture":"x86_64","OS":"linux"}}}"#,
    );
    let task = serde_json::from_str(
        r#"{"ID":"0rwyt22ldfdjvn3n3ynn9y2g9","Slot":3,"Spec":{"ContainerSpec":{"Env":["A=old","A=x=y","B"]}}}"#,
    );
    TemplateContext::new(&task.unwrap(), &service.unwrap(), &node.unwrap())
}

#[test]
fn every_placeholder_has_its_value() {
    for (text, expected) in [
        ("", ""),
        ("plain } text {", "plain } text {"),
        ("{{.Service.ID}}", "0zvf1sfisvwy5zdptk3gq7fbr"),
        ("{{.Service.Name}}", "web"),
        ("{{.Service.Labels}}", "map[a:1 b.c:2]"),
        ("{{index .Service.Labels \"b.c\"}}", "2"),
        ("{{index .Service.Labels \"none\"}}", ""),
        ("{{.Node.ID}}", "8ndmfqyjknwbf6qu2vwspt9ci"),
        ("{{.Node.Hostname}}-{{.Task.Slot}}", "n1-3"),
        ("{{.Node.Platform}}", "{x86_64 linux}"),
        (
            "{{.Node.Platform.OS}}/{{ .Node.Platform.Architecture }}",
            "linux/x86_64",
        ),
        ("{{.Task.ID}}", "0rwyt22ldfdjvn3n3ynn9y2g9"),
        ("{{.Task.Name}}", "web.3.0rwyt22ldfdjvn3n3ynn9y2g9"),
        ("{{env \"A\"}}", "x=y"),
        ("{{env \"NONE\"}}", ""),
        ("a{{/* why */}}b", "ab"),
        ("{{\"{{\"}}.Task.Slot{{\"}}\"}}", "{{.Task.Slot}}"),
        ("a  {{- .Task.Slot -}}  b", "a3b"),
        ("a  {{ .Task.Slot -}}  b {{ .Task.Slot }} c", "a  3b 3 c"),
    ] {
        assert_eq!(
            Template::parse(text).unwrap().expand(&context()),
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_global_task_has_its_node_as_slot() {
    let task = serde_json::from_str(r#"{"ID":"0rwyt22ldfdjvn3n3ynn9y2g9"}"#).unwrap();
    let service =
        serde_json::from_str(r#"{"ID":"0zvf1sfisvwy5zdptk3gq7fbr","Spec":{"Name":"web"}}"#).unwrap();
    let node = serde_json::from_str(r#"{"ID":"8ndmfqyjknwbf6qu2vwspt9ci"}"#).unwrap();
    let context = TemplateContext::new(&task, &service, &node);
    assert_eq!(context.task_slot, "8ndmfqyjknwbf6qu2vwspt9ci");
    assert_eq!(
        context.task_name,
        "web.8ndmfqyjknwbf6qu2vwspt9ci.0rwyt22ldfdjvn3n3ynn9y2g9"
    );
}

#[test]
fn what_nothing_stands_for_is_refused() {
    for bad in [
        "{{.Task.Slots}}",
        "{{}}",
        "{{if true}}x{{end}}",
        "{{index .Service.Labels}}",
        "{{index .Service.Labels x}}",
        "{{env A}}",
        "{{secret \"x\"}}",
        "{{\"a\" \"b\"}}",
    ] {
        assert!(
            matches!(Template::parse(bad), Err(TemplateError::Unknown { .. })),
            "{bad}"
        );
    }
    for bad in ["{{", "a {{.Task.Slot}", "{{\"}}"] {
        assert!(
            matches!(Template::parse(bad), Err(TemplateError::Unclosed { .. })),
            "{bad}"
        );
    }
    assert_eq!(
        Template::parse("x {{.Task").unwrap_err().to_string(),
        "\"{{.Task\" has {{ without }}"
    );
}

#[test]
fn environment_host_name_and_mounts_are_filled_in() {
    let container: ContainerSpec = serde_json::from_str(
        r#"{"Image":"{{.Task.Slot}}","Args":["{{x"],"Hostname":"h{{.Task.Slot}}","Env":["S={{.Task.Slot}}"],
        "Mounts":[{"Type":"volume","Source":"v{{.Task.Slot}}","Target":"/{{.Service.Name}}",
        "VolumeOptions":{"Labels":{"l":"{{.Node.ID}}"},"DriverConfig":{"Options":{"o":"{{.Task.Slot}}"}}}}]}"#,
    )
    .unwrap();
    let expanded = context().expand(&container).unwrap();
    assert_eq!(
        serde_json::to_value(&expanded).unwrap(),
        serde_json::json!({"Image":"{{.Task.Slot}}","Args":["{{x"],"Hostname":"h3","Env":["S=3"],
        "Mounts":[{"Type":"volume","Source":"v3","Target":"/web",
        "VolumeOptions":{"Labels":{"l":"8ndmfqyjknwbf6qu2vwspt9ci"},"DriverConfig":{"Options":{"o":"3"}}}}]})
    );
    let broken = ContainerSpec {
        env: Some(vec!["A={{".to_owned()]),
        ..ContainerSpec::default()
    };
    assert!(context().expand(&broken).is_err());
}

proptest! {
    #[test]
    fn no_text_panics_and_text_without_braces_stays(text in "[{} a-z.\"\\\\/*-]{0,40}") {
        let template = Template::parse(&text);
        if !text.contains("{{") {
            prop_assert_eq!(template.unwrap().expand(&context()), text);
        } else if let Ok(template) = template {
            template.expand(&context());
        }
    }
}
