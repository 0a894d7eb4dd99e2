use super::*;
use crate::LogOptions;
use crate::log::{LogStream, Rotating, write_line};
use proptest::prelude::*;
use std::path::Path;

fn line(second: i64, text: &str) -> Vec<u8> {
    let mut line = Vec::new();
    let time = Timestamp::from_second(second).unwrap();
    write_line(&mut line, time, LogStream::Stdout, text.as_bytes());
    line
}

const OPTIONS: LogOptions = LogOptions {
    max_size: 400,
    max_file: 3,
};

fn log(directory: &Path) -> Rotating {
    Rotating::open(LogFiles::new(directory), OPTIONS).unwrap()
}

fn reader(directory: &Path, query: &LogQuery) -> Reader {
    Reader::new(LogFiles::new(directory), OPTIONS.max_file, query).unwrap()
}

fn texts(reader: &mut Reader) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        texts.push(record.text);
    }
    texts
}

fn numbers(range: impl Iterator<Item = i64>) -> Vec<String> {
    range.map(|number| format!("{number}")).collect()
}

#[test]
fn the_tail_is_found_across_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path());
    for number in 0..30 {
        log.append(&line(number, &number.to_string())).unwrap();
    }
    let all = texts(&mut reader(directory.path(), &LogQuery::default()));
    assert!(all.len() >= 12 && all.len() < 30, "{}", all.len());
    let count = i64::try_from(all.len()).unwrap();
    assert_eq!(all, numbers(30 - count..30));
    for tail in 0..35 {
        let query = LogQuery {
            tail: Some(tail),
            ..LogQuery::default()
        };
        let kept = i64::try_from(tail).unwrap().min(count);
        assert_eq!(
            texts(&mut reader(directory.path(), &query)),
            numbers(30 - kept..30),
            "{tail}"
        );
    }
}

#[test]
fn only_what_was_said_since_a_time_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path());
    for number in 0..10 {
        log.append(&line(number, &number.to_string())).unwrap();
    }
    let since = Some(Timestamp::from_second(7).unwrap());
    let query = LogQuery {
        since,
        ..LogQuery::default()
    };
    assert_eq!(texts(&mut reader(directory.path(), &query)), ["7", "8", "9"]);
}

#[test]
fn a_line_that_is_half_written_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path());
    let mut reader = reader(directory.path(), &LogQuery::default());
    let whole = line(1, "whole");
    let (begin, end) = whole.split_at(9);
    log.append(begin).unwrap();
    assert_eq!(reader.next_record().unwrap(), None);
    log.append(end).unwrap();
    assert_eq!(texts(&mut reader), ["whole"]);
}

#[test]
fn what_is_no_record_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path());
    log.append(b"garbage\n").unwrap();
    log.append(&line(1, "good")).unwrap();
    let endless = vec![b'x'; usize::try_from(LONGEST_LINE).unwrap() * 2];
    log.append(&[&endless[..], b"\n"].concat()).unwrap();
    log.append(&line(2, "last")).unwrap();
    let mut reader = reader(directory.path(), &LogQuery::default());
    assert_eq!(texts(&mut reader), ["good", "last"]);
}

#[test]
fn a_log_that_is_not_there_yet_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let mut reader = reader(
        directory.path(),
        &LogQuery {
            tail: Some(1),
            ..LogQuery::default()
        },
    );
    assert_eq!(reader.next_record().unwrap(), None);
    log(directory.path()).append(&line(1, "first")).unwrap();
    assert_eq!(texts(&mut reader), ["first"]);
}

proptest! {
    /// A reader that is never more than the kept files behind sees everything once and in order; one that is further
    /// behind goes on with the oldest that is kept.
    #[test]
    fn a_reader_follows_across_rotation(steps in prop::collection::vec((0usize..9, 0usize..20), 1..30)) {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path());
        let mut reader = reader(directory.path(), &LogQuery::default());
        let (mut said, mut seen, mut gaps) = (0i64, Vec::new(), false);
        for (says, reads) in steps {
            for _ in 0..says {
                log.append(&line(said, &said.to_string())).unwrap();
                said += 1;
            }
            // Ten lines fit what is kept behind the reader's own file.
            gaps |= said - seen.last().copied().unwrap_or(-1) > 10;
            for _ in 0..reads {
                if let Some(record) = reader.next_record().unwrap() {
                    seen.push(record.text.parse::<i64>().unwrap());
                }
            }
        }
        seen.extend(texts(&mut reader).iter().map(|text| text.parse::<i64>().unwrap()));
        prop_assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        prop_assert_eq!(seen.last().copied().unwrap_or(-1), said - 1);
        if !gaps {
            prop_assert_eq!(seen, (0..said).collect::<Vec<_>>());
        }
    }
}
