use vt100::{Cell, Color, Screen};

const CELL_WIDTH: u16 = 8;
const CELL_HEIGHT: u16 = 17;
const MARGIN: u16 = 10;
const PAPER: &str = "#10151c";
const INK: &str = "#d6dde6";
/// The sixteen named colours.
const PALETTE: [&str; 16] = [
    "#10151c", "#ff6b6b", "#5fd38d", "#f2c14e", "#5aa9ff", "#c792ea", "#4fd6d2", "#d6dde6",
    "#6b7785", "#ff8f8f", "#86e3ac", "#ffd97a", "#8cc4ff", "#dab4f3", "#83e6e3", "#ffffff",
];

/// The screen as a picture, as it would be seen.
pub(super) fn draw(screen: &Screen) -> String {
    let (rows, columns) = screen.size();
    let (width, height) = (
        columns * CELL_WIDTH + 2 * MARGIN,
        rows * CELL_HEIGHT + 2 * MARGIN,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAPER}\"/>\n"
    );
    for row in 0..rows {
        let cells: Vec<(u16, &Cell)> = (0..columns)
            .filter_map(|column| Some((column, screen.cell(row, column)?)))
            .collect();
        let runs = cells.chunk_by(|(_, a), (_, b)| look(a) == look(b));
        svg.extend(runs.map(|run| draw_run(row, run)));
    }
    svg.push_str("</svg>\n");
    svg
}

/// What makes two cells look alike.
fn look(cell: &Cell) -> (Color, Color, bool, bool, bool) {
    (
        cell.fgcolor(),
        cell.bgcolor(),
        cell.bold(),
        cell.dim(),
        cell.inverse(),
    )
}

fn colour(colour: Color, default: &'static str) -> String {
    match colour {
        Color::Default => default.to_owned(),
        Color::Idx(index) => PALETTE
            .get(usize::from(index))
            .map_or(default, |named| named)
            .to_owned(),
        Color::Rgb(red, green, blue) => format!("#{red:02x}{green:02x}{blue:02x}"),
    }
}

fn draw_run(row: u16, run: &[(u16, &Cell)]) -> String {
    let mut svg = String::new();
    let Some((first, cell)) = run.first() else {
        return svg;
    };
    let text: String = run
        .iter()
        .map(|(_, cell)| match cell.contents() {
            "" => " ",
            contents => contents,
        })
        .collect();
    let (mut ink, mut paper) = (colour(cell.fgcolor(), INK), colour(cell.bgcolor(), PAPER));
    if cell.inverse() {
        std::mem::swap(&mut ink, &mut paper);
    }
    let (x, y) = (MARGIN + first * CELL_WIDTH, MARGIN + row * CELL_HEIGHT);
    let width = u16::try_from(run.len()).unwrap_or(u16::MAX) * CELL_WIDTH;
    if paper != PAPER {
        svg = format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{CELL_HEIGHT}\" fill=\"{paper}\"/>\n"
        );
    }
    let shown = text.trim_end();
    if shown.is_empty() {
        return svg;
    }
    // The exact width keeps columns in line whatever the font.
    let width = u16::try_from(shown.chars().count()).unwrap_or(u16::MAX) * CELL_WIDTH;
    let weight = if cell.bold() {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let faint = if cell.dim() { " opacity=\"0.65\"" } else { "" };
    let escaped = shown
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    svg + &format!(
        "<text x=\"{x}\" y=\"{}\" textLength=\"{width}\" xml:space=\"preserve\" fill=\"{ink}\"{weight}{faint}>{escaped}</text>\n",
        y + CELL_HEIGHT - 4
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_and_text_are_drawn_where_they_stand() {
        let mut parser = vt100::Parser::new(2, 20, 0);
        parser.process(b"\x1b[1;31mbad\x1b[0m <ok>\r\n\x1b[7mchosen\x1b[0m");
        let svg = super::draw(parser.screen());
        assert!(
            svg.contains("fill=\"#ff6b6b\" font-weight=\"bold\">bad</text>"),
            "{svg}"
        );
        assert!(svg.contains("> &lt;ok&gt;</text>"), "{svg}");
        assert!(
            svg.contains("<rect x=\"10\" y=\"27\" width=\"48\" height=\"17\" fill=\"#d6dde6\"/>"),
            "{svg}"
        );
    }
}
