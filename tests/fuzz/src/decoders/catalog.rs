use essaim_model::{Catalog, CatalogErrors, Liveness, Place, plan};

/// A catalog that is taken obeys its rules, reads back as it was and can be planned for each of its nodes; one that is
/// refused says where, inside the file.
pub(crate) fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Catalog::parse(text) {
        Ok(catalog) => taken(&catalog),
        Err(errors) => refused(text, &errors),
    }
}

fn taken(catalog: &Catalog) {
    assert_eq!(catalog.check(), Ok(()), "it was taken and breaks rules");
    let written = catalog.to_toml();
    match Catalog::parse(&written) {
        Ok(again) => assert_eq!(again, *catalog, "reads back as another catalog:\n{written}"),
        Err(errors) => panic!("does not read back: {errors}\n{written}"),
    }
    let liveness = Liveness::of(catalog);
    for node in &catalog.nodes {
        // Refusals are the planner's right; it only must not fail otherwise.
        let _ = plan(catalog, &liveness, &node.name);
    }
}

fn refused(text: &str, errors: &CatalogErrors) {
    assert!(errors.iter().next().is_some(), "refused without an error");
    let mut before = Place { line: 0, column: 0 };
    for error in errors {
        assert!(!error.to_string().is_empty(), "an error says nothing");
        let place = error.place.expect("an error of a file has no place");
        assert!(is_inside(text, place), "{error} is outside of the file");
        assert!(place >= before, "{error} comes after one at {before}");
        before = place;
    }
}

/// Whether the place is that of a character, or of the end of a line.
fn is_inside(text: &str, place: Place) -> bool {
    let line = place
        .line
        .checked_sub(1)
        .and_then(|line| text.split('\n').nth(line));
    line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&place.column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Folder, Target};

    #[test]
    fn the_corpus_has_catalogs_that_are_taken_and_catalogs_that_are_refused() {
        let folder = Folder::corpus(Target::named("catalog").unwrap());
        let taken = |name: &str| {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            Catalog::parse(&text).map(drop)
        };
        for name in ["example.toml", "everything.toml"] {
            assert_eq!(taken(name), Ok(()), "{name}");
        }
        for name in ["syntax.toml", "wrong.toml"] {
            assert!(taken(name).is_err(), "{name}");
        }
    }

    #[test]
    fn places_are_counted_from_1_up_to_the_end_of_each_line() {
        for (line, column, inside) in [
            (0, 1, false),
            (1, 0, false),
            (1, 1, true),
            (1, 3, true),
            (1, 4, false),
            (2, 1, true),
            (2, 2, false),
            (3, 1, false),
        ] {
            assert_eq!(
                is_inside("aé\n", Place { line, column }),
                inside,
                "{line}:{column}"
            );
        }
    }
}
