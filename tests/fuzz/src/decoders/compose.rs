use essaim_compose::{Place, Problem, Source, Surroundings, load};
use std::io;
use std::path::Path;

/// A stack's file that is taken reads back as it was printed, and asks for the same; one that is refused says where,
/// inside the file.
pub(crate) fn file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let around = Surroundings {
        directory: Path::new("/srv"),
        variable: &|name| (name == "SET").then(|| "value".to_owned()),
        read: &|path| match path.extension() {
            Some(_) => Ok(b"A=1\n".to_vec()),
            None => Err(io::ErrorKind::NotFound.into()),
        },
    };
    let read = |text: &str| {
        let source = Source {
            name: "f".to_owned(),
            text: text.to_owned(),
        };
        load(&[source], &around)
    };
    match read(text) {
        Ok(loaded) => {
            loaded.words.iter().for_each(|word| is_inside(text, word));
            let printed = loaded.stack.to_yaml();
            let again = match read(&printed) {
                Ok(again) => again.stack,
                Err(problems) => panic!("does not read back: {problems}\n{printed}"),
            };
            assert_eq!(again.to_yaml(), printed, "reads back as another");
            match (loaded.stack.plan("s", &around), again.plan("s", &around)) {
                (Ok(plan), again) => assert_eq!(Ok(plan), again, "asks for another\n{printed}"),
                (Err(problems), again) => {
                    problems.iter().for_each(|problem| is_inside(text, problem));
                    assert!(again.is_err(), "it was refused as it was written\n{printed}");
                }
            }
        }
        Err(problems) => {
            assert!(problems.iter().next().is_some(), "refused without a problem");
            problems.iter().for_each(|problem| is_inside(text, problem));
        }
    }
}

/// A problem says something, of a character or of the end of a line.
fn is_inside(text: &str, problem: &Problem) {
    assert!(!problem.text.is_empty(), "a problem says nothing");
    let Place { line, column } = problem.place;
    let line = line.checked_sub(1).and_then(|line| text.split('\n').nth(line));
    assert!(
        line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&column)),
        "{problem} is outside of the file"
    );
}
