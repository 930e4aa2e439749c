//! The regions and their verdicts, as a table.

use serde_json::Value;

use super::fit::cut;

/// What is shown of a node's status.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Table {
    /// What must not be overlooked.
    pub(super) alarm: Option<String>,
    /// Headings, a line for each region, and perhaps why some are as they are.
    pub(super) lines: Vec<String>,
}

impl Table {
    /// The alarm, if any, and the lines.
    pub(super) fn all_lines(&self) -> impl Iterator<Item = &str> {
        self.alarm.iter().chain(&self.lines).map(String::as_str)
    }
}

/// One region.
struct Row {
    /// Its name, how its proxies are, its verdict for each service.
    cells: Vec<String>,
    /// Why it has the verdict for [`WHY_OF`].
    why: String,
    is_remarkable: bool,
}

/// A line for each region: how its proxies are, and its verdict for each service, at most `width` columns wide. The
/// reasons stand at the right; where that leaves too little for them, below, and only where there is something to say.
pub(super) fn draw(status: &Result<Value, String>, width: Option<usize>) -> Table {
    let status = match status {
        Ok(status) => status,
        Err(why) => return Table { alarm: Some(format!("NO STATUS of gslb-dns: {why}")), lines: Vec::new() },
    };
    let is_frozen = !status["doubts_itself_since"].is_null();
    let alarm = is_frozen.then(|| FROZEN.to_owned());
    let mut headings = vec!["region".to_owned(), "proxies".to_owned()];
    headings.extend(items(&status["services"]).iter().map(short_name));
    let rows = |length| -> Vec<Row> {
        items(&status["regions"]).iter().map(|region| row(status, region, is_frozen, length)).collect()
    };
    let fit = |line: String| width.map_or(line.clone(), |width| cut(line.trim_end(), width));
    let wide = lines(&headings, &rows(Length::Long), 2);
    let left = wide.first().map_or(0, |line| line.chars().count());
    if width.is_none_or(|width| left + WHY_MIN <= width) {
        let whys = std::iter::once(format!("why ({WHY_OF})")).chain(rows(Length::Long).into_iter().map(|row| row.why));
        let lines = wide.into_iter().zip(whys).map(|(line, why)| fit(line + &why)).collect();
        return Table { alarm, lines };
    }
    let rows = rows(Length::Short);
    let mut lines = lines(&headings, &rows, 1);
    let why = |row: &Row| format!("{} ({WHY_OF}): {}", row.cells[0], row.why);
    lines.extend(rows.iter().filter(|row| row.is_remarkable).map(why));
    Table { alarm, lines: lines.into_iter().map(fit).collect() }
}

/// Words for a place that is wide enough, or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Length {
    Long,
    Short,
}

fn row(status: &Value, region: &Value, is_frozen: bool, length: Length) -> Row {
    let proxies = items(&region["proxies"]);
    let up = proxies.iter().filter(|proxy| proxy["is_up"] == true).count();
    let mut row = Row {
        cells: vec![text(&region["name"]).to_owned(), mark(format!("{up} of {}", proxies.len()), is_frozen)],
        why: String::new(),
        is_remarkable: is_frozen,
    };
    for service in items(&status["services"]) {
        let standing = items(&service["regions"]).iter().find(|standing| standing["region"] == region["name"]);
        let verdict = standing.map_or("-".to_owned(), |standing| show(standing, length));
        row.cells.push(mark(verdict, is_frozen && standing.is_some()));
        if let Some(standing) = standing.filter(|_| short_name(service) == WHY_OF) {
            row.why = text(&standing["reason"]).to_owned();
            row.is_remarkable |= standing["verdict"] != "serving";
        }
    }
    row
}

fn mark(cell: String, is_frozen: bool) -> String {
    if is_frozen { format!("[{cell}]") } else { cell }
}

/// Columns as wide as what stands in them, and `gap` between two.
fn lines(headings: &[String], rows: &[Row], gap: usize) -> Vec<String> {
    let all = || std::iter::once(headings).chain(rows.iter().map(|row| row.cells.as_slice()));
    let widest = |at: usize| all().filter_map(|cells| cells.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..headings.len()).map(|at| widest(at).unwrap_or(0) + gap).collect();
    let line = |cells: &[String]| cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    all().map(line).collect()
}

fn show(standing: &Value, length: Length) -> String {
    match (text(&standing["verdict"]), length) {
        ("ramping", Length::Long) => format!("ramping {} %", standing["share_percent"]),
        ("ramping", Length::Short) => format!("ramp {} %", standing["share_percent"]),
        (verdict, _) => verdict.to_owned(),
    }
}

fn short_name(service: &Value) -> String {
    text(&service["name"]).split('.').next().unwrap_or_default().to_owned()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

const FROZEN: &str = "NO REGION CAN BE REACHED: gslb-dns doubts itself. What stands in [brackets] is frozen as it was \
    before, and so are the answers.";
/// The service whose reasons are shown.
const WHY_OF: &str = "www";
/// The fewest columns that are of use for a reason.
const WHY_MIN: usize = 30;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(verdict: &str, doubts: &Value) -> Result<Value, String> {
        let standing = json!({ "region": "seoul", "verdict": verdict, "share_percent": 25, "reason": REASON });
        let services = SERVICES.map(|name| json!({ "name": name, "regions": [standing] }));
        Ok(json!({
            "regions": [{ "name": "seoul", "proxies": [{ "is_up": true }, { "is_up": false }] }],
            "services": services, "doubts_itself_since": doubts,
        }))
    }

    #[test]
    fn table_has_a_line_for_each_region() {
        let table = draw(&status("ramping", &Value::Null), Some(200));
        assert_eq!((table.alarm, table.lines.len()), (None, 2));
        let line = &table.lines[1];
        assert!(["seoul", "1 of 2", "ramping 25 %", REASON].iter().all(|part| line.contains(part)), "{line}");
    }

    #[test]
    fn narrow_table_tells_reasons_below() {
        for width in 20..200 {
            let table = draw(&status("recovering", &Value::Null), Some(width));
            assert!(table.lines.iter().all(|line| line.chars().count() <= width), "{width}: {table:?}");
        }
        let table = draw(&status("recovering", &Value::Null), Some(80));
        assert_eq!(table.lines.len(), 3);
        assert!(table.lines[2].starts_with("seoul (www): recovery over"), "{table:?}");
        assert_eq!(draw(&status("serving", &Value::Null), Some(60)).lines.len(), 2);
    }

    #[test]
    fn frozen_verdicts_are_marked() {
        let table = draw(&status("serving", &json!(12)), Some(80));
        assert!(table.alarm.is_some());
        assert!(table.lines[1].contains("[serving]"), "{table:?}");
        assert!(table.lines[2].contains(REASON), "{table:?}");
    }

    const REASON: &str = "recovery over: takes a growing share of its clients";
    const SERVICES: [&str; 5] = ["www.gslb.test", "api.gslb.test", "static.gslb.test", "all.gslb.test", "eu.gslb.test"];
}
