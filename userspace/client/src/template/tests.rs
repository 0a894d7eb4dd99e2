use super::*;
use proptest::prelude::*;
use serde_json::json;

fn service() -> Value {
    json!({
        "Spec": {"Name": "web", "Labels": {"a": "1", "b": "<2>"}, "Replicas": 3},
        "Ports": [{"P": 80}, {"P": 53}],
        "Words": ["x", "y"],
        "Empty": [],
        "Up": true,
    })
}

#[test]
fn templates_fill_in_what_they_ask_for() {
    let cases = [
        ("plain", "plain"),
        ("{{.Spec.Name}}!", "web!"),
        ("{{ .spec.name }}", "web"),
        (
            "{{json .Spec}}",
            r#"{"Labels":{"a":"1","b":"\u003c2\u003e"},"Name":"web","Replicas":3}"#,
        ),
        ("{{.Spec.Labels}}", "map[a:1 b:<2>]"),
        ("{{.Words}}", "[x y]"),
        ("{{.Nope.Deep}}", "<no value>"),
        ("{{range .Ports}}{{.P}},{{end}}", "80,53,"),
        ("{{range $i, $p := .Ports}}{{$i}}={{$p.P}} {{end}}", "0=80 1=53 "),
        (
            "{{range $p := .Ports}}{{$p.P}}{{$.Spec.Name}}{{end}}",
            "80web53web",
        ),
        ("{{range $k, $v := .Spec.Labels}}{{$k}}{{$v}}{{end}}", "a1b<2>"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Nope}}x{{end}}", ""),
        ("{{if .Up}}up{{else}}down{{end}}", "up"),
        (
            "{{if not .Up}}up{{else if .Words}}words{{else}}down{{end}}",
            "words",
        ),
        (
            "{{with .Spec}}{{.Name}}{{end}}{{with .Nope}}x{{else}}y{{end}}",
            "weby",
        ),
        ("{{$n := .Spec.Name}}{{$n}}{{$n}}", "webweb"),
        ("{{index .Spec.Labels \"a\"}}{{index .Ports 1 \"P\"}}", "153"),
        ("{{(index .Ports 0).P}}", "80"),
        ("{{index .Spec.Labels \"nope\"}}", "<no value>"),
        ("{{.Spec.Name | upper | printf \"%s-%d%%\" \"x\"}}", "x-WEB%"),
        ("{{join .Words \", \"}} {{len .Words}}", "x, y 2"),
        ("{{split \"a/b\" \"/\"}}", "[a b]"),
        (
            "{{title \"a bc\"}} {{truncate \"abcdef\" 3}} {{pad \"x\" 1 2}}|",
            "A Bc abc  x  |",
        ),
        ("{{println 1 \"}}\"}}", "1 }}\n"),
        (
            "{{eq .Spec.Name \"db\" \"web\"}} {{ne 1 2}} {{lt 1 2}} {{ge \"a\" \"b\"}}",
            "true true true false",
        ),
        ("{{and .Up .Words}} {{or .Empty 7}}", "[x y] 7"),
        ("{{eq .Nope \"\"}}", "true"),
        ("a \n{{- .Spec.Name -}} \n b{{/* no */}}", "aweb"),
        ("{{`raw\\n`}}{{\"tab\\t\"}}", "raw\\ntab\t"),
        ("{{-1}}{{true}}", "-1true"),
    ];
    for (template, expected) in cases {
        let filled = Template::parse(template).and_then(|template| template.fill(&service()));
        let expected = if template.starts_with("a \n") {
            "awebb"
        } else {
            expected
        };
        assert_eq!(filled.as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_is_no_template_is_refused() {
    for text in [
        "{{",
        "{{.A",
        "{{}}",
        "{{end}}",
        "{{else}}",
        "{{if .A}}",
        "{{if}}x{{end}}",
        "{{range .A}}x{{else}}y",
        "{{nope .A}}",
        "{{\"a}}",
        "{{.A | }}",
        "{{| json}}",
        "{{(.A}}",
        "{{.A)}}",
        "{{template \"x\"}}",
        "{{define \"x\"}}",
        "{{range $a,$b,$c := .A}}{{end}}",
        "{{range .A}}x{{else if .B}}{{end}}",
        "{{1.2.3}}",
        "{{$ := 1}}",
        "{{\"\\q\"}}",
        "{{.A ! .B}}",
    ] {
        assert!(
            matches!(Template::parse(text), Err(TemplateError::Parse { .. })),
            "{text}"
        );
    }
    let deep = "(".repeat(100_000);
    assert!(Template::parse(&format!("{{{{{deep}}}}}")).is_err());
    assert!(Template::parse(&"{{if .A}}".repeat(100_000)).is_err());
}

#[test]
fn what_cannot_be_filled_in_is_refused() {
    for text in [
        "{{.Up.Deeper}}",
        "{{range .Up}}{{end}}",
        "{{len .Up}}",
        "{{index .Ports 9}}",
        "{{index .Up 1}}",
        "{{$nope}}",
        "{{json}}",
        "{{json 1 2}}",
        "{{join .Up \",\"}}",
        "{{lt 1 \"a\"}}",
        "{{printf \"%s\"}}",
        "{{printf \"%x\" 1}}",
        "{{pad \"x\" -1 0}}",
        "{{truncate \"x\" 99999}}",
        "{{.Up 1}}",
        "{{if .Up}}{{$x := 1}}{{end}}{{$x}}",
    ] {
        let filled = Template::parse(text).unwrap().fill(&service());
        assert!(
            matches!(filled, Err(TemplateError::Value(_))),
            "{text}: {filled:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_engine_panic(text in "[{}\\-. $a-zA-Z\"`|():=,1%\\\\\n]{0,60}") {
        let wrapped = format!("{{{{{text}}}}}");
        for text in [&text, &wrapped] {
            if let Ok(template) = Template::parse(text) {
                let _ = template.fill(&service());
            }
        }
    }

    #[test]
    fn text_without_actions_stays(text in "[^{]*") {
        prop_assert_eq!(Template::parse(&text).unwrap().fill(&Value::Null).unwrap(), text);
    }
}
