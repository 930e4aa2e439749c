use std::mem::MaybeUninit;
use std::path::PathBuf;

use super::*;
use crate::clock::Tick;
use crate::config::LogTarget;
use crate::http1::{HeadLimits, read_request};
use crate::relay::record::{By, Cause, Protocol};

fn log(format: LogFormat) -> AccessLog {
    AccessLog {
        target: LogTarget::Stdout,
        format,
        only: Only::All,
        sample: 1,
        request: vec!["user-agent".into(), "x-none".into()],
        response: vec!["server".into()],
    }
}

fn captured(log: &AccessLog, head: &str) -> Captured {
    let mut slots = [const { MaybeUninit::uninit() }; 8];
    let request = read_request(head.as_bytes(), &mut slots, HeadLimits::DEFAULT).expect("a head").expect("whole");
    Captured::of(&request, Protocol::Http11, log, Vec::new())
}

fn line(record: &Record) -> Line<'static> {
    Line {
        began_unix_ms: 1_066_206_717_130,
        client: "192.0.2.7:40001".parse().expect("an address"),
        peer: None,
        tls: Some("1.3"),
        proxy: "seoul-1",
        service: Some("www.example.com"),
        server: Some("app-1"),
        times: record.times(record.began()),
        clients: 5,
        service_in_flight: 3,
        server_in_flight: 1,
    }
}

fn answered(log: &AccessLog) -> Record {
    let mut record = Record::new(Some(Tick::now()));
    record.admit(Protocol::Http11);
    let head = "GET /a?q=%22 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: b|{c}\t\"d\"\r\n\r\n";
    record.text = Some(captured(log, head));
    record.assign(0);
    record.connect(false);
    record.answer(200);
    record.octets_down = 243;
    record.cookie = ['N', 'I'];
    record
}

fn written(log: &AccessLog, record: &Record) -> String {
    let (pen, access) = (Pen::default(), Access::default());
    pen.write(&access, log, record, &line(record));
    let text = String::from_utf8(pen.buffer.borrow().clone()).expect("text");
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text
}

#[test]
fn a_line_of_httplog_is_laid_out_as_haproxys() {
    let log = log(LogFormat::Httplog);
    let text = written(&log, &answered(&log));
    let (text, _) = text.split_once("0/0/0/0/0 ").map(|(start, rest)| (format!("{start}T {rest}"), ())).expect("times");
    assert_eq!(
        text,
        "192.0.2.7:40001 [15/Oct/2003:08:31:57.130] seoul-1~ www.example.com/app-1 T 200 243 - - --NI 5/5/3/1/0 0/0 \
         {b#7C#7Bc#7D#09#22d#22|} {} \"GET /a?q=%22 HTTP/1.1\"\n"
    );
}

#[test]
fn a_request_that_cannot_be_read_is_a_bad_one_in_httplog() {
    let log = log(LogFormat::Httplog);
    let mut record = Record::new(Some(Tick::now()));
    record.end(By::Proxy, Cause::Refused, "");
    record.answer_here(400);
    let nowhere = Line { service: None, server: None, tls: None, ..line(&record) };
    let (pen, access) = (Pen::default(), Access::default());
    pen.write(&access, &log, &record, &nowhere);
    let text = String::from_utf8(pen.buffer.borrow().clone()).expect("text");
    let end = "seoul-1 seoul-1/<NOSRV> -1/-1/-1/-1/0 400 0 - - PR-- 5/5/3/1/0 0/0 {|} {} \"<BADREQ>\"\n";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn a_connection_that_passes_as_it_is_has_a_line_of_tcplog() {
    let log = log(LogFormat::Httplog);
    let mut record = Record::of_connection();
    let lined = |record: &Record| {
        let (pen, access) = (Pen::default(), Access::default());
        pen.write(&access, &log, record, &Line { tls: None, ..line(record) });
        String::from_utf8(pen.buffer.borrow().clone()).expect("text")
    };
    let start = "192.0.2.7:40001 [15/Oct/2003:08:31:57.130] seoul-1 www.example.com/app-1 ";
    assert_eq!(lined(&record), format!("{start}-1/-1/0 0 -- 5/5/3/1/0 0/0\n"));
    record.admit(Protocol::Tcp);
    record.assign(0);
    record.connect(false);
    record.pass();
    record.octets_down = 243;
    assert!(lined(&record).ends_with(" 243 -- 5/5/3/1/0 0/0\n"), "{}", lined(&record));
    assert!(record.is_normal());
    record.end(By::Client, Cause::ClientGone, "");
    assert!(lined(&record).ends_with(" 243 CD 5/5/3/1/0 0/0\n") && !record.is_normal(), "{}", lined(&record));
}

#[test]
fn a_line_of_json_is_an_object_with_every_key() {
    let log = log(LogFormat::Json);
    let mut record = answered(&log);
    let mut fields = Vec::new();
    let server = [httparse::Header { name: "Server", value: b"x\xFF" }];
    capture_response(&log, &server, &mut fields);
    record.text.as_mut().expect("there").add_response(&fields);
    let full: serde_json::Value = serde_json::from_str(&written(&log, &record)).expect("an object");
    assert_eq!(full["target"], "/a?q=%22");
    assert_eq!(full["request"], serde_json::json!({ "user-agent": "b|{c}\t\"d\"", "x-none": null }));
    assert_eq!(full["response"], serde_json::json!({ "server": "x\u{ff}" }));
    assert_eq!((&full["termination"], &full["status"], &full["cause"]), (&"--NI".into(), &200.into(), &().into()));

    let mut record = Record::new(Some(Tick::now()));
    record.end(By::Proxy, Cause::Refused, "bare CR\nor LF");
    let bad: serde_json::Value = serde_json::from_str(&written(&log, &record)).expect("an object");
    let keys = |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&full), keys(&bad));
    assert_eq!((&bad["method"], &bad["status"], &bad["cause"]), (&().into(), &().into(), &"refused".into()));
}

#[test]
fn of_requests_that_went_well_one_in_so_many_is_written_and_all_that_did_not() {
    let sampled = AccessLog { sample: 3, ..log(LogFormat::Httplog) };
    let (pen, access) = (Pen::default(), Access::default());
    let well = answered(&sampled);
    for _ in 0..9 {
        pen.write(&access, &sampled, &well, &line(&well));
    }
    assert_eq!(pen.lines.get(), 3);
    let errors = AccessLog { only: Only::Errors, ..sampled };
    pen.write(&access, &errors, &well, &line(&well));
    let mut failed = answered(&errors);
    failed.end(By::Server, Cause::BrokenOff, "");
    pen.write(&access, &errors, &failed, &line(&failed));
    assert_eq!(pen.lines.get(), 4);
}

#[test]
fn lines_that_nobody_takes_are_left_out_and_counted_and_cost_bounded_memory() {
    let log = log(LogFormat::Json);
    let (pen, access) = (Pen::default(), Access::default());
    let record = answered(&log);
    let mut lines = 0;
    // Nobody has started the writer.
    while access.counts().left_out < 10 {
        pen.write(&access, &log, &record, &line(&record));
        lines += 1;
        assert!(lines < 200_000, "as if it had no bound");
    }
    let held = pen.buffer.borrow().len();
    assert!((PEN_OCTETS_MAX..PEN_OCTETS_MAX + 4096).contains(&held), "{held}");
    assert_eq!(access.counts().written, 0);
}

#[test]
fn a_file_that_was_moved_away_is_made_anew_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let log = AccessLog { target: LogTarget::File(path.clone()), ..log(LogFormat::Httplog) };
    let (pen, access) = (Pen::default(), Access::default());
    let file = || Some(open(&log.target).expect("opened"));
    access.start(file()).expect("started");
    let record = answered(&log);
    let write = || {
        pen.write(&access, &log, &record, &line(&record));
        pen.flush(&access);
        assert!(access.finish(Duration::from_secs(5)));
    };
    write();
    let moved = folder.path().join("access.log.1");
    std::fs::rename(&path, &moved).expect("moved");
    write();
    access.redirect(file());
    write();
    let lines = |path: &PathBuf| std::fs::read_to_string(path).expect("there").lines().count();
    assert_eq!((lines(&moved), lines(&path), access.counts().written), (2, 1, 3));
}

#[test]
fn a_full_disk_loses_lines_but_never_part_of_one_unnoticed() {
    let (pen, access) = (Pen::default(), Access::default());
    let target = LogTarget::File("/dev/full".into());
    let log = AccessLog { target: target.clone(), ..log(LogFormat::Httplog) };
    access.start(Some(open(&target).expect("opened"))).expect("started");
    let record = answered(&log);
    pen.write(&access, &log, &record, &line(&record));
    pen.flush(&access);
    assert!(access.finish(Duration::from_secs(5)));
    assert_eq!(access.counts(), LineCounts { written: 0, left_out: 0, failed: 1 });
}

#[test]
fn a_file_that_cannot_be_opened_is_told_by_its_name() {
    let target = LogTarget::File("/nowhere/access.log".into());
    let error = open(&target).expect_err("no such folder").to_string();
    assert!(error.starts_with("/nowhere/access.log: "), "{error}");
}
