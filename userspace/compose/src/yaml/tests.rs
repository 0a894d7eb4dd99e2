use super::*;
use crate::place::Problem;

fn read_text(text: &str) -> (Option<Node>, Vec<Problem>) {
    let mut findings = Findings::of(vec!["f".to_owned()]);
    let node = read(0, text, &mut findings);
    let problems = match findings.finish() {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().cloned().collect(),
    };
    (node, problems)
}

fn get<'a>(node: &'a Node, name: &str) -> &'a Node {
    let Value::Map(entries) = &node.value else {
        panic!("{node:?} is no mapping");
    };
    entries
        .iter()
        .find(|(key, _)| key.name == name)
        .map(|(_, node)| node)
        .unwrap()
}

fn names(node: &Node) -> Vec<&str> {
    let Value::Map(entries) = &node.value else {
        panic!("{node:?} is no mapping");
    };
    entries.iter().map(|(key, _)| key.name.as_str()).collect()
}

#[test]
fn plain_words_mean_what_docker_takes_them_for() {
    let text = |text: &str| Value::Text(text.to_owned());
    let cases = [
        ("", Value::Null),
        ("~", Value::Null),
        ("NULL", Value::Null),
        ("yes", Value::Bool(true)),
        ("On", Value::Bool(true)),
        ("y", Value::Bool(true)),
        ("off", Value::Bool(false)),
        ("yEs", text("yEs")),
        ("0", Value::Integer(0)),
        ("0440", Value::Integer(0o440)),
        ("0o440", Value::Integer(0o440)),
        ("-17", Value::Integer(-17)),
        ("+17", Value::Integer(17)),
        ("1_000", Value::Integer(1000)),
        ("0x1F", Value::Integer(31)),
        ("0b101", Value::Integer(5)),
        ("18446744073709551615", Value::Integer(u64::MAX.into())),
        ("18446744073709551616", Value::Float(18_446_744_073_709_551_616.0)),
        ("089", Value::Float(89.0)),
        ("1.5", Value::Float(1.5)),
        (".5", Value::Float(0.5)),
        ("1e3", Value::Float(1000.0)),
        ("1.", Value::Float(1.0)),
        (".inf", Value::Float(f64::INFINITY)),
        ("1.2.3", text("1.2.3")),
        ("22:22", text("22:22")),
        ("--1", text("--1")),
        ("+-1", text("+-1")),
        ("0x", text("0x")),
        ("1e", text("1e")),
        ("-", text("-")),
        (".", text(".")),
        ("2026-01-01", text("2026-01-01")),
        ("12m", text("12m")),
    ];
    for (word, expected) in cases {
        assert_eq!(plain(word), expected, "{word}");
    }
}

#[test]
fn numbers_are_written_as_go_writes_them() {
    let cases = [
        (1.1, "1.1"),
        (1000.0, "1000"),
        (0.0, "0"),
        (1e21, "1e+21"),
        (1.5e-7, "1.5e-07"),
        (1e20, "100000000000000000000"),
        (f64::INFINITY, "+Inf"),
    ];
    for (number, expected) in cases {
        assert_eq!(float_text(number), expected);
    }
}

#[test]
fn quotes_and_tags_make_text() {
    let (root, problems) = read_text("a: 'yes'\nb: \"0440\"\nc: !!str 12\nd: |\n  12\ne: !!int '7'\n");
    let root = root.unwrap();
    for (name, expected) in [("a", "yes"), ("b", "0440"), ("c", "12"), ("d", "12\n")] {
        assert_eq!(get(&root, name).value, Value::Text(expected.to_owned()), "{name}");
    }
    assert_eq!(get(&root, "e").value, Value::Integer(7));
    assert_eq!(problems, []);
    let (_, problems) = read_text("a: !mine x\nb: !!int x\nc: !!set {}\n");
    let places: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        places,
        [
            "f:1:4: the tag !mine has no meaning here",
            "f:2:4: the tag !!int has no meaning here",
            "f:3:4: the tag !!set has no meaning here"
        ]
    );
}

#[test]
fn every_node_has_its_place() {
    let (root, _) = read_text("\u{feff}# é\na:\n  - é: [1, two]\n  - |\n    text\n");
    let root = root.unwrap();
    let place = |node: &Node| (node.at.place.line, node.at.place.column);
    assert_eq!(place(&root), (2, 1));
    let Value::List(items) = &get(&root, "a").value else {
        panic!("no list");
    };
    assert_eq!(place(&items[0]), (3, 5));
    let Value::List(inner) = &get(&items[0], "é").value else {
        panic!("no list");
    };
    assert_eq!((place(&inner[0]), place(&inner[1])), ((3, 9), (3, 12)));
    // A block stands where its text begins.
    assert_eq!(place(&items[1]), (5, 5));
}

#[test]
fn aliases_and_merge_keys_are_resolved() {
    let text = "
base: &base {a: 1, b: 2}
more: &more {b: 3, c: 4}
one: {<<: *base, b: 5}
both:
  <<: [*base, *more]
  d: 6
last: {c: 7, <<: *more}
copy: *base
";
    let (root, problems) = read_text(text);
    let root = root.unwrap();
    let numbers = |name: &str| {
        let node = get(&root, name);
        let mut pairs: Vec<_> = names(node)
            .into_iter()
            .map(|key| (key.to_owned(), get(node, key).value.clone()))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs
            .into_iter()
            .map(|(key, value)| format!("{key}{}", value.kind().replace("the number ", "")))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(problems, []);
    assert_eq!(numbers("one"), "a1 b5");
    assert_eq!(numbers("both"), "a1 b2 c4 d6");
    assert_eq!(numbers("last"), "b3 c7");
    assert_eq!(numbers("copy"), "a1 b2");
    // A copy stands where it is used, what is in it where it was written.
    assert_eq!(get(&root, "copy").at.place.line, 9);
    assert_eq!(get(get(&root, "copy"), "a").at.place.line, 2);
}

#[test]
fn what_is_no_tree_is_refused_with_its_place() {
    let cases = [
        ("", "f:1:1: the file is empty, expected a mapping with services"),
        (
            "# only\n",
            "f:1:1: the file is empty, expected a mapping with services",
        ),
        (
            "a: 1\nb: 2\na: 3\n",
            "f:3:1: the key \"a\" is given twice, first at 1:1",
        ),
        (
            "a: {b: 1, b: 2}",
            "f:1:11: the key \"b\" is given twice, first at 1:5",
        ),
        (
            "a: 1\n---\nb: 1\n",
            "f:2:1: a second document, expected one in a file",
        ),
        (
            "8080: x\n",
            "f:1:1: a key is the number 8080, expected text; quotes make it such",
        ),
        (
            "on: x\n",
            "f:1:1: a key is the truth value true, expected text; quotes make it such",
        ),
        (
            "? [a]\n: x\n",
            "f:1:3: a key is a list, expected text; quotes make it such",
        ),
        (
            "a: &x [*x]\n",
            "f:1:8: an alias within what it stands for, which has no end",
        ),
        (
            "a: *no\n",
            "f:1:4: this is no YAML: while parsing node, found unknown anchor",
        ),
        (
            "a: {<<: 1}\n",
            "f:1:9: <<: found the number 1, expected a mapping or a list of them",
        ),
    ];
    for (text, expected) in cases {
        let (_, problems) = read_text(text);
        assert_eq!(
            problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [expected],
            "{text:?}"
        );
    }
    for text in ["a: [1, 2\n", "a: b: c\n", "a: \"x\n"] {
        let (_, problems) = read_text(text);
        assert!(
            problems.len() == 1 && problems[0].text.starts_with("this is no YAML: "),
            "{text:?} {problems:?}"
        );
    }
}

#[test]
fn depth_and_repetition_have_bounds() {
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    let (root, problems) = read_text(&deep);
    assert!(
        root.is_none() && problems[0].text.starts_with("nested too deeply"),
        "{problems:?}"
    );
    // Each of the lines repeats the one before nine times: a billion in all.
    let lines = (1..10).map(|n| {
        let before = format!("*a{}", n - 1);
        format!("a{n}: &a{n} [{}]\n", vec![before; 9].join(", "))
    });
    let first = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    let laughs: Vec<String> = std::iter::once(first).chain(lines).collect();
    let (root, problems) = read_text(&laughs.concat());
    assert!(
        root.is_none() && problems[0].text.starts_with("the file is too large"),
        "{problems:?}"
    );
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(1000));
    let (root, problems) = read_text(&long);
    assert!(
        root.is_none() && problems[0].text.starts_with("the file is too large"),
        "{problems:?}"
    );
    let merges = format!(
        "a: &a {{{}}}\nb: [{}]\n",
        (0..1000)
            .map(|n| format!("k{n}: 1"))
            .collect::<Vec<_>>()
            .join(", "),
        "{<<: *a}, ".repeat(1000)
    );
    let (root, problems) = read_text(&merges);
    assert!(
        root.is_none() && problems[0].text.starts_with("the file is too large"),
        "{problems:?}"
    );
    let (root, problems) = read_text(&format!("a: [{}]\n", "x, ".repeat(50_000)));
    assert!(root.is_some() && problems.is_empty());
}
