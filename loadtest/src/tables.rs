//! How do figures look to a person? Markdown tables, the same on a terminal and on the page.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::spread::Spread;

pub(crate) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(heads.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The median with its range, in as many digits as tell one from another.
pub(crate) fn show(spread: Option<Spread>) -> String {
    let Some(Spread { median, low, high }) = spread else { return "–".to_owned() };
    let (by, unit, digits) = match median.abs() {
        size if size >= 1e7 => (1e6, " M", 1),
        size if size >= 1e4 => (1e3, " k", 1),
        size if size >= 100.0 => (1.0, "", 0),
        size if size >= 10.0 => (1.0, "", 1),
        _ => (1.0, "", 2),
    };
    let [median, low, high] = [median, low, high].map(|value| format!("{:.digits$}", value / by));
    match low == high {
        true => format!("{median}{unit}"),
        false => format!("{median}{unit} ({low}–{high})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_as_many_digits_as_they_need() {
        for (of, shown) in [
            (vec![60_919.0, 57_724.0, 62_446.0], "60.9 k (57.7–62.4)"),
            (vec![867.2, 864.0, 918.0], "867 (864–918)"),
            (vec![14.35], "14.3"),
            (vec![0.701, 0.65, 0.72], "0.70 (0.65–0.72)"),
            (vec![], "–"),
        ] {
            assert_eq!(show(Spread::of(of)), shown);
        }
    }
}
