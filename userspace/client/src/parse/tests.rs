use super::*;
use crate::human;
use essaim_objects::{Nanoseconds, UpdateOrder};
use proptest::prelude::*;

#[test]
fn spans_are_read_as_go_reads_them() {
    let cases = [
        ("0", Some(0)),
        ("10s", Some(10_000_000_000)),
        ("1m30s", Some(90_000_000_000)),
        ("1.5h", Some(5_400_000_000_000)),
        (".5s", Some(500_000_000)),
        ("1.s", Some(1_000_000_000)),
        ("-1s", Some(-1_000_000_000)),
        ("+2ms", Some(2_000_000)),
        ("3us", Some(3_000)),
        ("3µs", Some(3_000)),
        ("7ns", Some(7)),
        ("10", None),
        ("", None),
        ("s", None),
        (".s", None),
        ("1d", None),
        ("1.2.3s", None),
        ("1s 2s", None),
        ("-", None),
        ("9999999999h", None),
        ("99999999999999999999s", None),
    ];
    for (text, expected) in cases {
        assert_eq!(duration(text).ok().map(|span| span.0), expected, "{text}");
    }
    assert!(nano_duration("-1s").is_err());
}

#[test]
fn sizes_processors_and_shares_are_read() {
    let sizes = [
        ("64m", Some(67_108_864)),
        ("1.5g", Some(1_610_612_736)),
        ("12", Some(12)),
        ("1GiB", Some(1 << 30)),
        ("1 kb", Some(1024)),
        ("7b", Some(7)),
        ("x", None),
        ("", None),
        ("-1", None),
        ("1q", None),
        ("9999p", None),
        ("99999999999999999999999999", None),
        ("1.2.3k", None),
    ];
    for (text, expected) in sizes {
        assert_eq!(text.parse::<Bytes>().ok().map(|size| size.0), expected, "{text}");
    }
    let cpus = [
        ("1.5", Some(1_500_000_000)),
        (".25", Some(250_000_000)),
        ("0", Some(0)),
        ("2.", Some(2_000_000_000)),
        ("0.0000000001", None),
        ("x", None),
        ("-1", None),
        (".", None),
        ("1e3", None),
    ];
    for (text, expected) in cpus {
        assert_eq!(text.parse::<Cpus>().ok().map(|cpus| cpus.0), expected, "{text}");
    }
    assert_eq!(ratio(".25"), Ok(0.25));
    for text in ["-0.1", "1.1", "NaN", ""] {
        assert!(ratio(text).is_err(), "{text}");
    }
}

#[test]
fn words_name_those_that_there_are() {
    assert_eq!(word::<UpdateOrder>("start-first"), Ok(UpdateOrder::StartFirst));
    for text in ["foo", ""] {
        assert_eq!(
            word::<UpdateOrder>(text).unwrap_err().to_string(),
            "expected stop-first, start-first"
        );
    }
}

#[test]
fn comma_separated_fields_may_be_quoted() {
    let cases = [
        ("a,b", Some(vec!["a", "b"])),
        ("", Some(vec![""])),
        ("a,", Some(vec!["a", ""])),
        ("\"a,b\",c", Some(vec!["a,b", "c"])),
        ("\"a\"\"b\"", Some(vec!["a\"b"])),
        ("\"a", None),
        ("a\"b", None),
    ];
    for (text, expected) in cases {
        let expected = expected.map(|fields| fields.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(fields(text).ok(), expected, "{text}");
    }
}

#[test]
fn a_removal_of_a_host_may_leave_out_the_address() {
    let all = HostEntry::removal("a").unwrap();
    let one = HostEntry::removal("a:1.2.3.4").unwrap();
    assert!(
        all.matches("1.2.3.4 a")
            && all.matches("5.6.7.8 b a")
            && !all.matches("1.2.3.4 b")
            && !all.matches("")
    );
    assert!(one.matches("1.2.3.4 a") && !one.matches("5.6.7.8 a"));
    assert!(
        HostEntry::parse("a").is_err()
            && HostEntry::parse(":1.2.3.4").is_err()
            && HostEntry::parse("a:x").is_err()
    );
    assert_eq!(HostEntry::parse("b:[::1]").unwrap().line(), "::1 b");
}

#[test]
fn ports_that_cannot_be_are_refused() {
    for text in [
        "",
        "0",
        "80:",
        ":80",
        "1:2:3",
        "82-80:1-3",
        "80-82:90-91",
        "70000",
        "80/",
        "80/icmp",
        "target=0",
        "mode=host",
        "target=80,x=1",
        "target=80,published",
        "target",
    ] {
        assert!(text.parse::<Ports>().is_err(), "{text}");
    }
    assert_eq!("65533-65535".parse::<Ports>().unwrap().0.len(), 3);
    assert_eq!("0-65535:80".parse::<Ports>().unwrap().0.len(), 65_536);
}

proptest! {
    #[test]
    fn spans_come_back_as_they_are_written(span in any::<i64>().prop_filter("its sign can turn", |span| *span != i64::MIN)) {
        prop_assert_eq!(duration(&human::duration(Nanoseconds(span))), Ok(Nanoseconds(span)));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,30}", list in "[a-z=,\"0-9:./-]{0,40}") {
        for text in [text.as_str(), list.as_str()] {
            let _ = duration(text);
            let _ = text.parse::<Bytes>();
            let _ = text.parse::<Cpus>();
            let _ = text.parse::<Ports>();
            let _ = text.parse::<PortRemoval>();
            let _ = text.parse::<MountFlag>();
            let _ = text.parse::<FileFlag>();
            let _ = text.parse::<AttachmentFlag>();
            let _ = text.parse::<Discrete>();
            let _ = text.parse::<Placed>();
            let _ = HostEntry::removal(text);
            let _ = ulimit(text);
            let _ = capability(text);
            let _ = shell_words(text);
        }
    }

    #[test]
    fn fields_come_back_from_quotes(parts in proptest::collection::vec("[a-z,\"= ]{0,6}", 1..5)) {
        let written: Vec<_> = parts.iter().map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
        prop_assert_eq!(fields(&written.join(",")), Ok(parts));
    }
}
