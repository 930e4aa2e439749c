//! Programs that run beside the test, and their folder; neither outlives it.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A program that runs. It is killed when this is dropped, and also when the test itself is killed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    guard: Option<Child>,
    log: Arc<Log>,
    /// Its end was seen, so that its id may be another's.
    is_over: bool,
}

/// An empty folder for files of a run. It is removed when this is dropped, and also when the run is ended by a signal.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
    guard: Option<Child>,
}

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// The program `name` of this workspace, as it was built beside this executable; builds all programs when it is missing.
pub fn program(name: &str) -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let folder = folder_of_programs()?;
    let path = folder.join(name);
    if !path.exists() {
        BUILT.get_or_init(|| build(&folder)).clone()?;
    }
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing: run `cargo build --workspace --bins`", path.display()))
    }
}

/// Builds what is missing or out of date of the programs in the folder of this executable, with its profile.
pub fn build_programs() -> Result<(), String> {
    build(&folder_of_programs()?)
}

fn folder_of_programs() -> Result<PathBuf, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = executable.parent().map(Path::to_path_buf).unwrap_or_default();
    // Tests lie in a folder `deps` beside the programs.
    Ok(if folder.ends_with("deps") { folder.parent().map(Path::to_path_buf).unwrap_or_default() } else { folder })
}

fn build(folder: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace", "--bins", "--quiet"]).current_dir(repository());
    // The folder is named after the profile, but that of `dev`.
    let profile = folder.file_name().unwrap_or_default();
    command.arg("--profile").arg(if profile == "debug" { OsStr::new("dev") } else { profile });
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    let status = command.status().map_err(|error| format!("cargo build: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo build --workspace --bins: {status}")) }
}

/// The top folder of the workspace.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

impl Process {
    /// Starts `program`; `name` is for messages.
    pub fn start<S: AsRef<OsStr>>(name: &str, program: &Path, arguments: &[S]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own group: Ctrl-C in a terminal is for us, and we end it.
        let mut child = command.process_group(0).spawn()?;
        let log = Arc::new(Log::default());
        if let Some(out) = child.stdout.take() {
            log.follow(out);
        }
        if let Some(err) = child.stderr.take() {
            log.follow(err);
        }
        // What it has started itself, as NSD does, goes with it.
        let group = format!("-{}", child.id());
        Ok(Self { name: name.to_owned(), guard: guard("kill -9", group), child, log, is_over: false })
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(pid), signal).map_err(|error| format!("{signal} to {}: {error}", self.name))
    }

    /// Stops it in its tracks (SIGSTOP); its sockets stay open.
    pub fn freeze(&self) -> Result<(), String> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) -> Result<(), String> {
        self.signal(Signal::SIGCONT)
    }

    /// Kills it and what it has started (SIGKILL), and waits for its end.
    pub fn kill(&mut self) {
        // As long as it has not been waited for, nobody else has its id; what it has started may outlive it.
        if let (false, Ok(pid)) = (self.is_over, i32::try_from(self.child.id())) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
        self.is_over = true;
        self.dismiss_guard();
    }

    /// Asks it to end (SIGTERM) and waits; fails when it has not ended after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }

    /// Waits for its end; fails when that has not come after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let (status, _) = super::within(limit, || self.ended().ok_or_else(|| format!("{} runs on", self.name)))?;
        Ok(status)
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() {
            self.is_over = true;
            self.dismiss_guard();
        }
        status
    }

    /// Everything it has written so far, to either output.
    pub fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last lines of the log, for a message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        log[log.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Waits for a line that holds `text`, from line `from` of the log on; fails with the log after `limit`.
    pub fn wait_for_line(&self, text: &str, from: usize, limit: Duration) -> Result<String, String> {
        let end = Instant::now() + limit;
        let mut lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines.iter().skip(from).find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!(
                    "{} has not said {text:?} within {limit:?}, but:\n{}",
                    self.name,
                    lines.join("\n")
                ));
            }
            lines = self.log.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn dismiss_guard(&mut self) {
        dismiss(&mut self.guard);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Folder {
    /// A new folder among those for temporary files, with a name that begins with `prefix`.
    pub fn new(prefix: &str) -> Result<Self, String> {
        let folder = TempDir::with_prefix(prefix).map_err(|error| format!("a folder for temporary files: {error}"))?;
        Ok(Self { guard: guard("rm -rf --", folder.path()), folder })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        dismiss(&mut self.guard);
    }
}

impl Log {
    fn follow(self: &Arc<Self>, output: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                log.lines
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(String::from_utf8_lossy(&line).into_owned());
                log.grown.notify_all();
            }
        });
    }
}

/// A shell that waits for the end of its input, which comes with the end of this process, and then runs `command` with
/// `argument`. It is in a group of its own: Ctrl-C in a terminal is not for it.
fn guard(command: &str, argument: impl AsRef<OsStr>) -> Option<Child> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("read _; {command} \"$0\"")]).arg(argument).stdin(Stdio::piped());
    shell.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().ok()
}

fn dismiss(guard: &mut Option<Child>) {
    if let Some(mut guard) = guard.take() {
        let _ = guard.kill();
        let _ = guard.wait();
    }
}

const TAIL_LINES: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guard_cleans_up_at_the_end_of_the_run() {
        let folder = TempDir::with_prefix("gslb-guard-").expect("a folder");
        let mut guard = guard("rm -rf --", folder.path()).expect("a shell");
        // What the end of this process does to it.
        drop(guard.stdin.take());
        guard.wait().expect("its end");
        assert!(!folder.path().exists());
    }
}
