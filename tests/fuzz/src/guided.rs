//! Discovery guided by coverage: libFuzzer drives a target whose code was built with its instrumentation.

use crate::{Folder, Target};
use libfuzzer_sys as _;
use std::env;
use std::ffi::{CString, NulError, c_char, c_int};
use std::path::Path;
use std::process;
use std::sync::OnceLock;

/// Longest input, in bytes.
const MOST: usize = 4096;

/// The target that is driven; libFuzzer's callback takes no argument of ours.
static TARGET: OnceLock<Target> = OnceLock::new();

unsafe extern "C" {
    /// `FuzzerDriver.cpp` of LLVM's compiler-rt: parses the arguments and calls back until told to end.
    fn LLVMFuzzerRunDriver(
        argc: *mut c_int,
        argv: *mut *mut *mut c_char,
        callback: extern "C" fn(*const u8, usize) -> c_int,
    ) -> c_int;
}

/// Looks for inputs that fail; ends the process at the first one, once it lies in `artifacts`.
///
/// # Errors
/// A path that no C program can be given.
pub fn discover(target: Target, seconds: u64, seed: u64, artifacts: &Path) -> Result<i32, NulError> {
    let folders = [
        Folder::discovered(target),
        Folder::corpus(target),
        Folder::regressions(target),
    ];
    let mut arguments = vec![
        format!("-max_total_time={seconds}"),
        // Only 32 bits are taken; 0 would mean the clock.
        format!("-seed={}", (seed & 0xffff_ffff).max(1)),
        format!("-max_len={MOST}"),
        format!("-artifact_prefix={}/", artifacts.display()),
        "-use_value_profile=1".to_owned(),
        "-reduce_inputs=1".to_owned(),
        "-timeout=10".to_owned(),
        "-print_final_stats=1".to_owned(),
    ];
    let present = folders.iter().filter(|folder| folder.path().exists());
    arguments.extend(present.map(|folder| folder.path().display().to_string()));
    drive(target, arguments)
}

/// Adds to the corpus what was discovered and leads through code that the corpus does not.
///
/// # Errors
/// A path that no C program can be given.
pub fn merge(target: Target) -> Result<i32, NulError> {
    let folders = [Folder::corpus(target), Folder::discovered(target)];
    let mut arguments = vec![
        // As few as lead through all of it; how often each leads through is no reason.
        "-set_cover_merge=1".to_owned(),
        "-use_counters=0".to_owned(),
        format!("-max_len={MOST}"),
    ];
    arguments.extend(folders.iter().map(|folder| folder.path().display().to_string()));
    drive(target, arguments)
}

/// Has libFuzzer do what these arguments of its own say.
///
/// # Errors
/// An argument that no C program can be given.
pub fn drive(target: Target, arguments: Vec<String>) -> Result<i32, NulError> {
    TARGET.get_or_init(|| target);
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        loud(info);
        // libFuzzer takes the signal, and keeps the input.
        process::abort();
    }));
    // A merge runs this line again, in a shell, with more arguments: an input may end the process that it is tried in.
    let program =
        env::current_exe().map_or_else(|_| "essaim-fuzz".to_owned(), |path| path.display().to_string());
    let program = format!("{program} {} --libfuzzer", target.name);
    let words: Result<Vec<CString>, NulError> =
        [program].into_iter().chain(arguments).map(CString::new).collect();
    let words = words?;
    let mut pointers: Vec<*mut c_char> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
    let mut count = c_int::try_from(pointers.len()).unwrap_or_default();
    pointers.push(std::ptr::null_mut());
    let mut first = pointers.as_mut_ptr();
    // SAFETY: `first` leads to `count` strings that end in NUL, with a null behind them, as `main` gets them; they are
    // not written to, and all outlive the call.
    Ok(unsafe { LLVMFuzzerRunDriver(&raw mut count, &raw mut first, one_input) })
}

extern "C" fn one_input(data: *const u8, size: usize) -> c_int {
    let input = if size == 0 {
        &[]
    } else {
        // SAFETY: libFuzzer hands over `size` bytes at `data` that it leaves alone until this returns.
        unsafe { std::slice::from_raw_parts(data, size) }
    };
    if let Some(target) = TARGET.get() {
        (target.run)(input);
    }
    0
}

/// The crate that brings libFuzzer wants a target under this name; ours come by the callback.
#[unsafe(no_mangle)]
extern "Rust" fn rust_fuzzer_test_input(_input: &[u8]) -> i32 {
    0
}
