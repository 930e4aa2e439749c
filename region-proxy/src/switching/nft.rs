//! The `nft` program, which puts rules into the kernel: all of a text, or nothing.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is not there.
    #[error("nft is not installed: expected the package nftables")]
    Missing,
    /// The kernel lets this process change no rules.
    #[error("nft may not change rules: expected to be started as root or with CAP_NET_ADMIN")]
    NotAllowed,
    /// It does not take the text.
    #[error("nft refuses the rules: {0}")]
    Refused(String),
    /// It did not end in time.
    #[error("nft did not end within {LIMIT:?}, and was ended")]
    Late,
    /// It cannot be started or waited for.
    #[error("nft: {0}")]
    System(#[from] io::Error),
}

/// Puts `text` into force, whole or not at all.
pub fn apply(text: &str) -> Result<(), NftError> {
    run(&["-f", "-"], text).map(drop)
}

/// Whether the kernel would take `text`.
pub fn check(text: &str) -> Result<(), NftError> {
    run(&["-c", "-f", "-"], text).map(drop)
}

/// What `nft` prints when told `order`, such as `-j list ruleset`.
pub fn ask(order: &[&str]) -> Result<String, NftError> {
    run(order, "")
}

fn run(order: &[&str], text: &str) -> Result<String, NftError> {
    // Files in memory: however much is written, nobody has to read at the same time.
    let (mut input, mut output, mut errors) = (memory()?, memory()?, memory()?);
    input.write_all(text.as_bytes())?;
    input.rewind()?;
    let mut child = start(order, [input.try_clone()?, output.try_clone()?, errors.try_clone()?])?;
    if !ends_within(&mut child, LIMIT)? {
        // It may have ended meanwhile.
        let _ = child.kill();
        child.wait()?;
        return Err(NftError::Late);
    }
    let is_done = child.wait()?.success();
    if !is_done {
        return Err(refusal(&read(&mut errors)?));
    }
    Ok(read(&mut output)?)
}

fn start(order: &[&str], files: [File; 3]) -> Result<Child, NftError> {
    for program in PROGRAMS {
        let [input, output, errors] = [files[0].try_clone()?, files[1].try_clone()?, files[2].try_clone()?];
        let mut command = Command::new(program);
        // In a group of its own: what stops the proxy from a terminal does not end it halfway.
        command.args(order).env("LC_ALL", "C").process_group(0);
        match command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(errors)).spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            started => return Ok(started?),
        }
    }
    Err(NftError::Missing)
}

fn ends_within(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ok(true) };
    let end = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

fn refusal(errors: &str) -> NftError {
    if errors.contains("Operation not permitted") {
        return NftError::NotAllowed;
    }
    // The lines with `^^^` below what is wrong tell a person nothing without the whole text.
    let lines = errors.lines().filter(|line| !line.trim_matches([' ', '\t', '^', '~']).is_empty());
    let what: String = lines.take(ERROR_LINES_MAX).collect::<Vec<_>>().join("; ").chars().take(ERROR_LEN_MAX).collect();
    NftError::Refused(if what.is_empty() { "it does not say why".to_owned() } else { what })
}

fn memory() -> io::Result<File> {
    Ok(File::from(memfd_create("nft", MemfdFlags::CLOEXEC)?))
}

fn read(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut octets = Vec::new();
    file.read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// Where it may be: system managers and `su` do not always look into `sbin`.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// A table of 65,537 slots takes half a second.
const LIMIT: Duration = Duration::from_secs(10);

const ERROR_LINES_MAX: usize = 4;
const ERROR_LEN_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_wrong_and_shows_no_marks() {
        let text = "/dev/stdin:3:9-12: Error: syntax error, unexpected colon\nadd rule x\n        ^^^^\n";
        assert_eq!(
            refusal(text).to_string(),
            "nft refuses the rules: /dev/stdin:3:9-12: Error: syntax error, unexpected colon; add rule x"
        );
        assert!(matches!(refusal("Error: Operation not permitted\n"), NftError::NotAllowed));
    }

    #[test]
    fn one_that_hangs_is_given_up() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("it starts");
        assert!(!ends_within(&mut child, Duration::from_millis(20)).expect("it can be waited for"));
        child.kill().and_then(|()| child.wait()).expect("it ends");
    }
}
