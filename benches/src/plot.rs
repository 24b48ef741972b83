//! Lines over sizes, as SVG: both axes logarithmic, a line for each way.
//!
//! `rdma-client bench --plot` draws with this file, too: no crate of the examples knows this one, and there is nothing in here that is
//! not the standard library's.

use std::fmt::Write as _;

/// A line: its name, and its points as (bytes, value).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Size in bytes, and the value there.
    pub points: Vec<(f64, f64)>,
}

/// Of a plot.
pub const WIDTH: f64 = 760.0;
/// Of a plot.
pub const HEIGHT: f64 = 440.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// Told apart also by those who see no red or green.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933"];

/// A plot of `lines`; those without points are left out. None if there are no points at all.
pub fn svg(title: &str, unit: &str, lines: &[Line]) -> Option<String> {
    let lines: Vec<&Line> = lines.iter().filter(|line| !line.points.is_empty()).collect();
    let points = || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), value| {
            (least.min(value), most.max(value))
        })
    };
    let (x_least, x_most) = range(&mut points().map(|(x, _)| *x));
    let (y_least, y_most) = range(&mut points().map(|(_, y)| *y));
    if x_most <= 0.0 {
        return None;
    }
    // Whole decades upwards, whole powers of two sideways.
    let (y_low, y_high) = (y_least.log10().floor(), (y_most.log10() + 0.05).ceil());
    let (x_low, x_high) = (x_least.log2(), x_most.log2().max(x_least.log2() + 1.0));
    let x_at = |x: f64| LEFT + (x.log2() - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
    let y_at = |y: f64| HEIGHT - BOTTOM - (y.log10() - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}, {}</text>\n",
        escaped(title),
        escaped(unit)
    );
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for decade in y_low as i32..=y_high as i32 {
        let value = 10_f64.powi(decade);
        let y = y_at(value);
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    let mut sizes: Vec<u64> = points().map(|(x, _)| *x as u64).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let x = x_at(size as f64);
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#eee\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 20.0,
            size_text(size)
        );
    }
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS.get(index % COLOURS.len()).copied().unwrap_or("#000000");
        let path: Vec<String> = line
            .points
            .iter()
            .filter(|(x, y)| *x > 0.0 && *y > 0.0)
            .map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(*y)))
            .collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for point in &path {
            let (x, y) = point.split_once(',').unwrap_or(("0", "0"));
            let _ = writeln!(text, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let y = TOP + 12.0 + 20.0 * index as f64;
        let _ = writeln!(
            text,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            right + 12.0,
            y - 6.0,
            right + 32.0,
            escaped(&line.name)
        );
    }
    text.push_str("</svg>\n");
    Some(text)
}

/// A size as people write it.
pub fn size_text(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_within_the_frame() {
        // Points at the edges of both axes are on the paper; a line without points has no entry.
        let line = |name: &str, points: &[(f64, f64)]| Line { name: name.into(), points: points.to_vec() };
        let lines = [line("a<b", &[(1024.0, 0.5), (65536.0, 2000.0)]), line("left out", &[])];
        let text = svg("GET", "MiB/s", &lines).unwrap();
        assert!(text.contains("a&lt;b") && !text.contains("left out"));
        for circle in text.split("<circle ").skip(1) {
            let value = |name: &str| -> f64 {
                let (_, rest) = circle.split_once(&format!("{name}=\"")).unwrap();
                rest.split('"').next().unwrap().parse().unwrap()
            };
            assert!((LEFT..=WIDTH - RIGHT).contains(&value("cx")), "{circle}");
            assert!((TOP..=HEIGHT - BOTTOM).contains(&value("cy")), "{circle}");
        }
        assert_eq!(svg("x", "y", &[]), None);
    }
}
