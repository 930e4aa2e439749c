//! What the README says of region-proxy works as it is written.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use gslb_tests::harness::certificates::Authority;
use gslb_tests::harness::http::Request;
use gslb_tests::harness::process::{Process, program, repository};
use gslb_tests::harness::site::{ROOT, SERVICES, Site};
use gslb_tests::harness::within;

type Held = Result<(), String>;

/// A machine with two cores runs many of these at once.
const LIMIT: Duration = Duration::from_secs(60);

/// The first block of the chapter on the proxy that is in `language`.
fn block(language: &str) -> Result<String, String> {
    let readme = std::fs::read_to_string(repository().join("README.md")).map_err(|error| error.to_string())?;
    let chapter = readme.split_once("\n## The proxy\n").ok_or("no chapter on the proxy")?.1;
    let block = chapter.split_once(&format!("```{language}\n")).ok_or("no such block")?.1;
    Ok(block.split("```").next().unwrap_or_default().to_owned())
}

fn region_proxy(arguments: &[&str], file: &Path) -> Result<Output, String> {
    let mut command = Command::new(program("region-proxy")?);
    command.args(arguments).arg(file).output().map_err(|error| error.to_string())
}

#[track_caller]
fn assert_went_well(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn commands_for_the_first_try_work() -> Held {
    let site = Site::new()?;
    let example = std::fs::read_to_string(repository().join("region-proxy/example.toml"));
    site.write("example.toml", site.at_home(&example.map_err(|error| error.to_string())?))?;
    let folder = program("region-proxy")?.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    let commands = site.at_home(&block("sh")?).replace("target/release", &folder);
    let commands = commands.replace("region-proxy/example.toml", &site.path("example.toml").display().to_string());
    let mut running = Vec::new();
    let mut asked = Vec::new();
    for line in commands.lines() {
        let line = line.split(" #").next().unwrap_or_default();
        let (beside, last) = line.rsplit_once('&').unwrap_or(("", line));
        for command in beside.split('&') {
            let shell = Path::new("/bin/sh");
            let process = Process::start(command, shell, &["-c", &format!("exec {command}")]);
            running.push(process.map_err(|error| error.to_string())?);
        }
        if !last.trim().is_empty() {
            // What runs beside may not be ready yet.
            let run = || Command::new("/bin/sh").args(["-c", &format!("exec {last}")]).output();
            let (output, _) = within(LIMIT, || {
                let output = run().map_err(|error| error.to_string())?;
                if output.status.success() { Ok(output) } else { Err(format!("{last}: {output:?}")) }
            })?;
            asked.push(String::from_utf8_lossy(&output.stdout).into_owned());
        }
    }
    let [checked, told, status] = &asked[..] else { return Err(format!("{asked:?}")) };
    assert!(checked.contains("right: 1 service, 2 servers"), "{checked}");
    assert!(told.contains("\"server\": \"app-"), "{told}");
    assert!(status.contains(r#""servers_up":2,"servers_total":2"#), "{status}");
    Ok(())
}

#[test]
fn small_settings_for_production_have_no_mistake() -> Held {
    let (site, authority) = (Site::new()?, Authority::new()?);
    site.write("cookie-secret", "0123456789abcdef0123456789abcdef")?;
    site.write_certificate(&authority, "fullchain")?;
    std::fs::rename(site.path("fullchain.key"), site.path("privkey.pem")).map_err(|error| error.to_string())?;
    // A user that is on every machine.
    site.write("region-proxy.toml", block("toml")?.replace("\"gslb\"", "\"nobody\""))?;
    assert_went_well(&region_proxy(&["check", "--config"], &site.path("region-proxy.toml"))?);
    Ok(())
}

#[test]
fn saved_settings_are_taken_over_and_a_mistake_changes_nothing() -> Held {
    let mut site = Site::start(&format!("{ROOT}{SERVICES}"))?;
    let file = site.path("proxy.toml");
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    site.write("proxy.toml", text.replace("\"50ms\"", "\"often\""))?;
    let line = site.proxy()?.wait_for_line("mistake in the settings", 0, LIMIT)?;
    assert!(line.contains("check.interval: \"often\" is not"), "{line}");
    let checked = region_proxy(&["check", "--config"], &file)?;
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
    let problems = &site.status()?["settings_problems"];
    assert!(problems[0].as_str().is_some_and(|problem| problem.contains("check.interval")), "{problems}");
    site.wait_for_servers(3)?;
    site.write("proxy.toml", &text)?;
    site.proxy()?.wait_for_line("settings are right again", 0, LIMIT)?;
    assert!(site.status()?["settings_problems"].is_null());
    site.write("proxy.toml", text.replace("app-3", "app-4"))?;
    site.proxy()?.wait_for_line("settings reloaded", 0, LIMIT).map(drop)
}

#[test]
fn drain_is_told_to_gslb_dns_and_undrain_takes_it_back() -> Held {
    let site = Site::start(&format!("{ROOT}{SERVICES}"))?;
    for (order, is_draining) in [("drain", true), ("undrain", false)] {
        assert_went_well(&region_proxy(&[order, "--config"], &site.path("proxy.toml"))?);
        assert_eq!(site.status()?["is_draining"], is_draining);
        assert_eq!(ask(site.http())?, 200, "it serves on");
    }
    Ok(())
}

#[test]
fn sigusr2_puts_a_new_program_in_the_place_of_the_old_one() -> Held {
    let mut site = Site::start(&format!("{ROOT}{SERVICES}"))?;
    let process = site.proxy()?;
    process.signal(nix::sys::signal::Signal::SIGUSR2)?;
    process.wait_for_line("handed over", 0, LIMIT)?;
    // Not waited for: what it has started goes with it at the end of the test.
    process.wait_for_line("stopped", 0, LIMIT)?;
    site.wait_for_servers(3)?;
    assert_eq!(ask(site.http())?, 200);
    Ok(())
}

fn ask(address: SocketAddr) -> Result<u16, String> {
    Request::get("/").send(address).map(|response| response.status)
}
