use crate::Target;
use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs a target on an input.
///
/// # Errors
/// What it panicked with.
pub fn attempt(target: Target, input: &[u8]) -> Result<(), String> {
    panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|payload| words(&*payload))
}

/// Runs something during which panics of this thread are not printed, since they are looked for.
pub fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.unwrap_or_else(|payload| panic::resume_unwind(payload))
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        let target = Target {
            name: "refuses-a",
            run: |input| assert!(!input.contains(&b'a'), "an a in {} bytes", input.len()),
        };
        assert_eq!(attempt(target, b"bcd"), Ok(()));
        let error = quietly(|| attempt(target, b"bad"));
        assert_eq!(error, Err("an a in 3 bytes".to_owned()));
    }
}
