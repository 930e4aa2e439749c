//! What the command lines of the benchmarks have in common.

/// A number from `least` to `most`; fails with what was expected.
pub fn number(option: &str, value: &str, least: impl Into<f64>, most: impl Into<f64>) -> Result<f64, String> {
    let (least, most) = (least.into(), most.into());
    let number = value.parse::<f64>().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{option} {value}: expected {least} to {most}"))
}

/// What is wrong with a name, and which are known.
pub fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    format!("{name}: expected some of {}", known.collect::<Vec<_>>().join(", "))
}
