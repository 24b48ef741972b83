//! What was measured, drawn: an SVG that any browser shows.
//!
//! ```text
//!   ┌ PUT MiB/s ┐ ┌ GET MiB/s ┐      size of objects to the right, both axes logarithmic, a line for each way
//!   ┌ PUT p50   ┐ ┌ GET p50   ┐
//!   ┌ PUT s/GiB ┐ ┌ GET s/GiB ┐      processor time of the server, where its process was named
//! ```

use std::fmt::Write;

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) kib: usize,
    pub(crate) what: &'static str,
    pub(crate) way: &'static str,
    pub(crate) mib_per_second: f64,
    pub(crate) p50_us: f64,
    /// Seconds of the server's processors for a GiB, if they were counted.
    pub(crate) server: Option<f64>,
}

/// Bytes of nothing around a panel's field, for what is written there.
const MARGIN: f64 = 52.0;
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 230.0;
const COLOURS: [(&str, &str); 3] = [("rdma", "#c0392b"), ("shm", "#2471a3"), ("http", "#7d8a8c")];

type Value = fn(&Row) -> Option<f64>;
const PANELS: [(&str, Value); 3] = [
    ("MiB/s", |row| Some(row.mib_per_second)),
    ("p50, µs", |row| Some(row.p50_us)),
    ("server CPU, s/GiB", |row| row.server),
];

/// The picture of all rows.
pub(crate) fn svg(rows: &[Row]) -> String {
    let mut out = String::new();
    let shown: Vec<_> =
        PANELS.iter().filter(|(_, value)| rows.iter().any(|row| value(row).is_some())).collect();
    let (width, height) = (2.0 * (WIDTH + MARGIN) + MARGIN, shown.len() as f64 * (HEIGHT + MARGIN) + MARGIN);
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    );
    for (row, (unit, value)) in shown.iter().enumerate() {
        for (column, what) in ["PUT", "GET"].into_iter().enumerate() {
            let x = MARGIN + column as f64 * (WIDTH + MARGIN);
            let y = MARGIN / 2.0 + row as f64 * (HEIGHT + MARGIN);
            let points: Vec<Point> = rows
                .iter()
                .filter(|row| row.what == what)
                .filter_map(|row| Some(Point { way: row.way, kib: row.kib as f64, value: value(row)? }))
                .collect();
            panel(&mut out, (x, y), &format!("{what} {unit}"), &points);
        }
    }
    let mut x = MARGIN;
    for (way, colour) in COLOURS.iter().filter(|(way, _)| rows.iter().any(|row| row.way == *way)) {
        let y = height - 12.0;
        let _ =
            writeln!(out, "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\" font-weight=\"bold\">{way}</text>");
        x += 60.0;
    }
    out.push_str("</svg>\n");
    out
}

struct Point {
    way: &'static str,
    kib: f64,
    value: f64,
}

/// Where the values of an axis lie, from 0 to 1.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, base: f64) -> Axis {
        let (low, high) = values
            .filter(|value| *value > 0.0)
            .map(|value| value.log(base))
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Axis { low: 0.0, high: 1.0 };
        }
        Axis { low: low.floor(), high: high.ceil().max(low.floor() + 1.0) }
    }

    fn place(&self, value: f64, base: f64) -> f64 {
        (value.max(1e-12).log(base) - self.low) / (self.high - self.low)
    }
}

fn panel(out: &mut String, (x, y): (f64, f64), title: &str, points: &[Point]) {
    let across = Axis::of(points.iter().map(|point| point.kib), 2.0);
    let up = Axis::of(points.iter().map(|point| point.value), 10.0);
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{}\" font-weight=\"bold\">{title}</text>\n\
         <rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#bbb\"/>",
        y - 6.0
    );
    for decade in up.low as i32..=up.high as i32 {
        let value = 10f64.powi(decade);
        let at = y + HEIGHT * (1.0 - up.place(value, 10.0));
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{at}\" x2=\"{}\" y2=\"{at}\" stroke=\"#eee\"/>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{value}</text>",
            x + WIDTH,
            x - 4.0,
            at + 4.0
        );
    }
    let mut sizes: Vec<f64> = points.iter().map(|point| point.kib).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    for kib in sizes {
        let at = x + WIDTH * across.place(kib, 2.0);
        let name = if kib >= 1024.0 { format!("{} MiB", kib / 1024.0) } else { format!("{kib} KiB") };
        let _ = writeln!(
            out,
            "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            y + HEIGHT + 14.0
        );
    }
    for (way, colour) in COLOURS {
        let line: Vec<String> = points
            .iter()
            .filter(|point| point.way == way)
            .map(|point| {
                let at = x + WIDTH * across.place(point.kib, 2.0);
                format!("{at:.1},{:.1}", y + HEIGHT * (1.0 - up.place(point.value, 10.0)))
            })
            .collect();
        if line.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for point in &line {
            let (at, up) = point.split_once(',').unwrap_or_default();
            let _ = writeln!(out, "<circle cx=\"{at}\" cy=\"{up}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_point() {
        // Each way has a line through its rows, inside the picture; what was not counted is not drawn.
        let row =
            |kib, what, way, value| Row { kib, what, way, mib_per_second: value, p50_us: 9.0, server: None };
        let rows = [
            row(4, "GET", "shm", 10.0),
            row(1024, "GET", "shm", 2000.0),
            row(4, "GET", "http", 5.0),
            row(4, "PUT", "http", 5.0),
        ];
        let picture = svg(&rows);
        assert_eq!(picture.matches("<circle").count(), 2 * rows.len(), "{picture}");
        assert_eq!(picture.matches("<polyline").count(), 6);
        assert!(picture.contains(">1 MiB</text>") && !picture.contains("server CPU"));
        assert!(!picture.contains("NaN") && !picture.contains("inf"));
        assert!(!svg(&[]).contains("NaN"));
    }
}
