//! What does a person see of an evaluation: one HTML page that needs nothing else.

use std::fmt::Write as _;

use super::{Figures, Grades, Judged, by_group, by_level, plots, probabilities, worst};

/// What the page is about.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    pub model: &'a str,
    /// What was read, for people.
    pub data: &'a str,
    pub threshold: f64,
    pub judged: &'a [Judged],
}

/// Errors shown of each kind.
const WORST: usize = 20;
/// Characters shown of a text.
const TEXT_MAX: usize = 400;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1c1f24;--soft:#5d6570;--rule:#dfe2e6;
--blue:#2563b8;--red:#c2413a;--grey:#9aa3ae}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1c2026;--ink:#e7eaee;--soft:#9aa4b1;
--rule:#323841;--blue:#6ea8fe;--red:#ff8a7f;--grey:#6b7480}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:72rem;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .7rem}
p{margin:.3rem 0;color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.2rem,1fr));gap:.7rem;margin-top:1.2rem}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:.5rem;padding:.6rem .8rem}
.tile b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.82rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:.5rem;padding:.7rem}
figcaption{font-weight:600}svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}svg .tick{font-size:10px}
.grid{stroke:var(--rule)}polyline{fill:none;stroke-linejoin:round}
.curve{stroke:var(--blue);stroke-width:2}.chance{stroke:var(--grey);stroke-dasharray:4 4}
.rule{stroke:var(--grey)}.threshold{stroke:var(--ink);stroke-dasharray:2 3}
.dot{fill:var(--red);fill-opacity:.85}.harmless{fill:var(--blue)}.harmful{fill:var(--red)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;background:var(--card);font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--soft);font-weight:600;font-size:.85rem}
th:first-child,td:first-child,.text{text-align:left}.text{overflow-wrap:anywhere;min-width:12rem}
.group{white-space:nowrap;min-width:0}.matrix{width:auto}
@media(max-width:40rem){th,td{padding:.25rem .35rem;font-size:.85rem}}
";

/// The whole page. All that comes from the data is escaped.
pub fn html(report: Report<'_>) -> String {
    let Report { model, data, threshold, judged } = report;
    let pairs: Vec<(f64, bool)> = judged.iter().map(|one| (one.score, one.high)).collect();
    let figures = Figures::of_pairs(&pairs, threshold);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
        <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
        <title>Impact model: evaluation</title><style>{STYLE}</style></head><body>\
        <h1>Impact model: evaluation</h1><p>{} on {}: {} texts, {} of them high; threshold {threshold}</p>",
        escaped(model),
        escaped(data),
        figures.texts,
        figures.high
    );
    tiles(&mut page, &figures);
    let _ = write!(
        page,
        "<h2>Curves</h2><div class=\"plots\">{}{}{}{}</div>",
        plots::roc(&pairs, threshold),
        plots::precision_recall(&pairs, threshold),
        plots::calibration(&probabilities(judged)),
        plots::scores(&pairs, threshold)
    );
    matrix(&mut page, &figures);
    let levels: Vec<(String, Figures)> = by_level(judged, threshold)
        .into_iter()
        .map(|(level, figures)| (format!("{level}: {}", level_name(level)), figures))
        .collect();
    table(&mut page, "By level", "level", &levels);
    if let Some(grades) = Grades::of(judged) {
        grades_of(&mut page, &grades);
    }
    let groups = by_group(judged, threshold);
    table(&mut page, "By group", "group", &groups);
    if let Some((name, auc)) = worst(&groups) {
        let _ = write!(page, "<p>Told apart worst: {}, AUC {auc:.3}</p>", escaped(name));
    }
    let missed = judged.iter().filter(|one| one.high && one.score < threshold);
    errors(&mut page, "High, and scored lowest", missed, |one| one.score);
    let alarms = judged.iter().filter(|one| !one.high && one.score >= threshold);
    errors(&mut page, "Not high, and scored highest", alarms, |one| -one.score);
    page.push_str("</body></html>\n");
    page
}

fn level_name(level: u8) -> &'static str {
    match level {
        0 => "reads or computes",
        1 => "small and reversible",
        2 => "money, outside, deletion, rights, production",
        _ => "plainly harmful",
    }
}

fn tiles(page: &mut String, figures: &Figures) {
    page.push_str("<div class=\"tiles\">");
    for (name, value) in [
        ("AUC", figures.auc),
        ("average precision", figures.average_precision),
        ("F1 at the threshold", figures.f1),
        ("best F1", figures.best_f1),
        ("threshold of best F1", figures.best_f1_threshold),
        ("precision", figures.precision),
        ("recall", figures.recall),
        ("false positive rate", figures.false_positive_rate),
        ("recall at 5 % false positives", figures.recall_at_5_percent),
        ("Brier score", figures.brier),
        ("calibration error", figures.calibration_error),
        ("log loss", figures.log_loss),
    ] {
        let _ = write!(page, "<div class=\"tile\"><b>{}</b><span>{name}</span></div>", number(value));
    }
    page.push_str("</div>");
}

fn matrix(page: &mut String, figures: &Figures) {
    let c = figures.confusion;
    let _ = write!(
        page,
        "<h2>Confusion at {}</h2><table class=\"matrix\"><tr><th></th><th>scored high</th><th>scored below</th></tr>\
        <tr><td>is high</td><td>{}</td><td>{}</td></tr><tr><td>is not</td><td>{}</td><td>{}</td></tr></table>",
        figures.threshold, c.found, c.missed, c.false_alarms, c.left_alone
    );
}

fn table(page: &mut String, title: &str, what: &str, groups: &[(String, Figures)]) {
    if groups.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<h2>{title}</h2><div class=\"scroll\"><table><tr><th>{what}</th><th>texts</th><th>high</th><th>AUC</th>\
        <th>F1</th><th>precision</th><th>recall</th><th>false positives</th></tr>"
    );
    for (name, figures) in groups {
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(name),
            figures.texts,
            figures.high,
            number(figures.auc),
            number(figures.f1),
            number(figures.precision),
            number(figures.recall),
            number(figures.false_positive_rate)
        );
    }
    page.push_str("</table></div>");
}

fn grades_of(page: &mut String, grades: &Grades) {
    let _ = write!(
        page,
        "<h2>What is parked</h2><p>AUC of level 2 and above {}, of level 3 {}; calibration error {}</p>\
        <div class=\"scroll\"><table><tr><th>threshold</th><th>level 0</th><th>1</th><th>2</th><th>3</th></tr>",
        number(grades.auc_level_2),
        number(grades.auc_level_3),
        number(grades.calibration_error)
    );
    for parked in &grades.parked {
        let _ = write!(page, "<tr><td>{:.2}</td>", parked.threshold);
        for share in parked.share {
            let _ = write!(page, "<td>{}</td>", number(share));
        }
        page.push_str("</tr>");
    }
    page.push_str(
        "</table></div><h2>What is found of level 2 and above</h2><div class=\"scroll\"><table>\
        <tr><th>false alarms allowed</th><th>threshold</th><th>recall</th><th>precision</th></tr>",
    );
    for at in &grades.at_false_alarms {
        let _ = write!(
            page,
            "<tr><td>{} %</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            at.allowed * 100.0,
            number(at.threshold),
            number(at.recall),
            number(at.precision)
        );
    }
    page.push_str("</table></div>");
}

fn errors<'a>(
    page: &mut String,
    title: &str,
    wrong: impl Iterator<Item = &'a Judged>,
    order: fn(&Judged) -> f64,
) {
    let mut wrong: Vec<&Judged> = wrong.collect();
    wrong.sort_by(|a, b| order(a).total_cmp(&order(b)));
    let _ = write!(page, "<h2>{title}</h2><p>{} in all", wrong.len());
    if wrong.len() > WORST {
        let _ = write!(page, ", the worst {WORST}");
    }
    page.push_str("</p>");
    if wrong.is_empty() {
        return;
    }
    page.push_str(
        "<div class=\"scroll\"><table><tr><th>score</th><th class=\"text group\">group</th><th class=\"text\">text</th></tr>",
    );
    for one in wrong.iter().take(WORST) {
        let _ = write!(
            page,
            "<tr><td>{:.3}</td><td class=\"text group\">{}</td><td class=\"text\">{}</td></tr>",
            one.score,
            escaped(&one.group),
            escaped(&shortened(&one.text))
        );
    }
    page.push_str("</table></div>");
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.3}"))
}

fn shortened(text: &str) -> String {
    let mut kept: String = text.chars().take(TEXT_MAX).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

/// Text as HTML shows it. Control characters, which could make the page unreadable, become spaces.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Also what turns the direction of text round: a report must show texts as they are.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(score: f64, high: bool, text: &str) -> Judged {
        Judged {
            score,
            levels: None,
            high,
            level: Some(if high { 3 } else { 0 }),
            group: "<b>".to_owned(),
            text: text.to_owned(),
        }
    }

    fn page(judged: &[Judged]) -> String {
        html(Report { model: "m", data: "d", threshold: 0.5, judged })
    }

    #[test]
    fn nothing_of_the_data_becomes_markup() {
        let page = page(&[
            judged(0.1, true, "<script>alert(1)</script> \"quoted\" & 'so on'"),
            judged(0.9, false, "fine\u{202e}\u{0}"),
        ]);
        assert!(!page.contains("<script") && !page.contains("<b></td>"), "{page}");
        assert!(
            page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &quot;quoted&quot; &amp; &#39;so on&#39;")
        );
        assert!(!page.contains('\u{202e}') && !page.contains('\u{0}'));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = page(&[judged(0.1, true, "a"), judged(0.9, false, "b"), judged(0.8, true, "c")]);
        for foreign in ["http:", "https:", "src=", "href=", "<script", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert_eq!(page.matches("<svg").count(), 4);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn the_page_says_what_each_threshold_parks_and_which_group_is_worst() {
        let page = page(&[judged(0.1, true, "a"), judged(0.9, false, "b"), judged(0.8, true, "c")]);
        assert!(page.contains("<td>0.80</td><td>1.000</td><td>–</td><td>–</td><td>0.500</td>"), "{page}");
        assert!(page.contains("Told apart worst: &lt;b&gt;, AUC 0.000"), "{page}");
    }

    #[test]
    fn the_worst_errors_come_first_and_are_bounded() {
        let many: Vec<Judged> =
            (0..50).map(|at| judged(f64::from(at) / 100.0, true, &format!("text-{at}."))).collect();
        let page = page(&many);
        assert!(page.contains("50 in all, the worst 20"));
        assert!(page.contains("text-0.") && page.contains("text-19.") && !page.contains("text-20."));
    }

    #[test]
    fn a_report_of_nothing_is_still_a_page() {
        assert!(page(&[]).ends_with("</html>\n"));
    }
}
