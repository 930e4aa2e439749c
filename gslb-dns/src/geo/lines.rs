//! Lines of comma-separated fields with comments, as geofeeds have them.

use shared::place::Coordinates;
use shared::problem::Problem;

use super::Source;

/// One line: its fields without the blanks around them.
pub(super) struct Line {
    file: String,
    /// Its number in the file, from 1.
    pub(super) number: usize,
    fields: Vec<String>,
}

/// The lines of `source` that are neither blank nor comments. A line that cannot be read is added to `problems`.
pub(super) fn read_lines(source: Source<'_>, problems: &mut Vec<Problem>) -> Vec<Line> {
    let text = source.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source.bytes);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text);
    let mut lines = Vec::new();
    let mut record = csv::ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return lines,
            Err(error) => {
                let line = error.position().map(|position| position.line() as usize);
                problems.push(Problem {
                    file: source.file.to_owned(),
                    line,
                    key: String::new(),
                    what: error.to_string(),
                });
                return lines;
            }
        }
        let line = Line {
            file: source.file.to_owned(),
            number: record.position().map_or(0, |position| line_of(text, position)),
            fields: record.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect(),
        };
        if line.fields.iter().any(|field| field.contains('\n')) {
            // A quote that is not closed would silently take the lines that follow with it.
            problems.push(line.problem("", "a quote is opened here and not closed on this line".to_owned()));
        } else if line.len() > 1 || !line.field(0).is_empty() {
            lines.push(line);
        }
    }
}

/// Number of the line on which the record begins whose reading began at `position`, before comments and empty lines.
fn line_of(text: &[u8], position: &csv::Position) -> usize {
    let rest = text.get(position.byte() as usize..).unwrap_or_default();
    let is_skipped = |line: &&[u8]| matches!(line, [] | [b'\r'] | [b'#', ..]);
    position.line() as usize + rest.split(|&byte| byte == b'\n').take_while(is_skipped).count()
}

impl Line {
    /// How many fields it has.
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The field at `at`, from 0; empty where there is none.
    pub(super) fn field(&self, at: usize) -> &str {
        self.fields.get(at).map_or("", String::as_str)
    }

    /// The coordinates in two fields; `None` when both are empty.
    pub(super) fn coordinates(&self, latitude: usize, longitude: usize) -> Result<Option<Coordinates>, String> {
        let number = |name, text: &str| match text {
            "" => Ok(None),
            text => text.parse::<f64>().map(Some).map_err(|_| format!("{name} {text:?}: expected a number of degrees")),
        };
        match (number("latitude", self.field(latitude))?, number("longitude", self.field(longitude))?) {
            (None, None) => Ok(None),
            (Some(latitude), Some(longitude)) => {
                Coordinates::from_degrees(latitude, longitude).map(Some).map_err(|error| error.to_string())
            }
            _ => Err("has a latitude or a longitude alone, expected both or none".to_owned()),
        }
    }

    /// The mistake `what` on this line.
    pub(super) fn problem(&self, key: &str, what: String) -> Problem {
        Problem { file: self.file.clone(), line: Some(self.number), key: key.to_owned(), what }
    }
}
