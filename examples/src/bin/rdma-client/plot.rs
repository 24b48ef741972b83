//! What was measured, drawn: an SVG that any browser shows.
//!
//! ```text
//!   ┌ PUT MiB/s ┐ ┌ GET MiB/s ┐      size of objects to the right, both axes logarithmic, a line for each way
//!   ┌ PUT p50   ┐ ┌ GET p50   ┐
//!   ┌ PUT p99   ┐ ┌ GET p99   ┐
//!   ┌ PUT s/GiB ┐ ┌ GET s/GiB ┐      processor time of the client
//!   ┌ PUT s/GiB ┐ ┌ GET s/GiB ┐      and of the server, where its process was named
//! ```

use lines::{HEIGHT, Line, WIDTH};
use std::fmt::Write;

/// Drawn as the benchmarks draw. The file and not its crate: a program that people run needs no harness.
#[allow(unreachable_pub, reason = "elsewhere it is a library's")]
#[path = "../../../../benches/src/plot.rs"]
mod lines;

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) kib: usize,
    pub(crate) what: &'static str,
    pub(crate) way: &'static str,
    pub(crate) mib_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Seconds of the client's processors for a GiB.
    pub(crate) own: f64,
    /// Seconds of the server's processors for a GiB, if they were counted.
    pub(crate) server: Option<f64>,
}

type Value = fn(&Row) -> Option<f64>;
const PANELS: [(&str, Value); 5] = [
    ("MiB/s", |row| Some(row.mib_per_second)),
    ("p50, µs", |row| Some(row.p50_us)),
    ("p99, µs", |row| Some(row.p99_us)),
    ("client CPU, s/GiB", |row| Some(row.own)),
    ("server CPU, s/GiB", |row| row.server),
];
const WAYS: [&str; 3] = ["rdma", "shm", "http"];

/// The picture of all rows.
pub(crate) fn svg(rows: &[Row]) -> String {
    let mut panels = String::new();
    let mut height = 0.0;
    for (unit, value) in PANELS {
        let drawn = ["PUT", "GET"].map(|what| {
            let lines = WAYS.map(|way| {
                let rows = rows.iter().filter(|row| row.what == what && row.way == way);
                let point = |row: &Row| Some((row.kib as f64 * 1024.0, value(row)?));
                Line { name: way.to_owned(), points: rows.filter_map(point).collect() }
            });
            lines::svg(what, unit, &lines)
        });
        for (column, panel) in drawn.iter().enumerate() {
            let Some(panel) = panel.as_deref().and_then(|panel| panel.strip_prefix("<svg")) else { continue };
            // Writing to a string does not fail.
            let _ = write!(
                panels,
                "<svg x=\"{}\" y=\"{height}\" width=\"{WIDTH}\" height=\"{HEIGHT}\"{panel}",
                column as f64 * WIDTH
            );
        }
        if drawn.iter().any(Option::is_some) {
            height += HEIGHT;
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\">\n{panels}</svg>\n",
        2.0 * WIDTH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_point() {
        // Each way has a line through its rows, inside the picture; what was not counted is not drawn.
        let row = |kib, what, way, value| {
            let (p50_us, p99_us, own) = (9.0, 99.0, 0.5);
            Row { kib, what, way, mib_per_second: value, p50_us, p99_us, own, server: None }
        };
        let rows = [
            row(4, "GET", "shm", 10.0),
            row(1024, "GET", "shm", 2000.0),
            row(4, "GET", "http", 5.0),
            row(4, "PUT", "http", 5.0),
        ];
        let picture = svg(&rows);
        assert_eq!(picture.matches("<circle").count(), 4 * rows.len(), "{picture}");
        assert_eq!(picture.matches("<polyline").count(), 12);
        assert!(picture.contains(">1 MiB</text>") && !picture.contains("server CPU"));
        assert_eq!(picture.matches("<svg").count(), picture.matches("</svg>").count());
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
        assert!(!svg(&[]).contains("NaN"));
    }
}
