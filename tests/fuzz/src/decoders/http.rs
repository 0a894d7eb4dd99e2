use essaim_health::HttpResponse;

/// More of an answer never changes what was read of its beginning, and a status is one.
pub(crate) fn answer(bytes: &[u8]) {
    let mut earlier = HttpResponse::read(&[]);
    for end in 0..=bytes.len() {
        let now = HttpResponse::read(&bytes[..end]);
        if earlier != Ok(HttpResponse::Incomplete) {
            assert_eq!(now, earlier, "byte {end} changes what was read");
        }
        if let Ok(HttpResponse::Status(status)) = now {
            assert!(status == 101 || (200..600).contains(&status), "status {status}");
        }
        earlier = now;
    }
}
