//! Captions, descriptions and tags, with the things in them that break careless programs.

use super::draw::Draw;
use super::words::{Category, FLOURISHES, OCCASIONS, SENTENCES, SHOP_HEADS, SHOP_TAILS, TAG_ENDS};

/// Longest title, in characters.
pub(crate) const TITLE_MAX: usize = 199;
/// Longest description, in characters.
pub(crate) const DESCRIPTION_MAX: usize = 180;
/// How a description ends that was too long for its column.
pub(crate) const CUT: &str = "…\u{a0}";

/// Steps through the pairs of a look and a thing (10 x 12) that meet each pair before they meet one again.
const STEPS: [u64; 8] = [1, 7, 11, 13, 17, 19, 23, 29];

pub(crate) fn title(draw: &mut Draw, category: &Category) -> String {
    let (look, thing) = (draw.pick(&category.looks), draw.pick(&category.things));
    let plain = match draw.below(8) {
        0 => format!("{} {look} {thing} for {}", 3 + draw.below(97), draw.pick(&OCCASIONS)),
        1 => format!("How to Plan {look} {thing} in {} Steps", 3 + draw.below(9)),
        2 => format!("{look} {thing} | {}", shop(draw)),
        3 => format!("The Only Guide to {thing} You'll Need This Year (With Pictures)"),
        4 => format!("{thing}: {look} Ideas & {} Mistakes to Avoid", 2 + draw.below(11)),
        5 => format!("{look} {thing}"),
        6 => format!(
            "{look} or {}? {thing} for {} - {}",
            draw.pick(&category.looks),
            draw.pick(&OCCASIONS),
            shop(draw)
        ),
        _ => format!("Why {look} {thing} Are Back, According to {}", shop(draw)),
    };
    let shown = match draw.below(1000) {
        0..20 => format!("{} {plain}", draw.pick(&FLOURISHES)),
        20..85 => format!("{plain} {}", draw.pick(&FLOURISHES)),
        85..91 => fancy_letters(&plain),
        91..97 => format!("{} {}", plain, FLOURISHES.repeat(4).join(" ")),
        97..112 => format!("\"{look}\" {thing} and Other 'Rules' \\ Half-Truths"),
        112..116 => format!("<p style=\"text-align: center;\">{plain}</p>"),
        _ => plain,
    };
    cut_at(&shown, TITLE_MAX)
}

/// A description; `cut` ones were too long and end in [`CUT`].
pub(crate) fn description(draw: &mut Draw, category: &Category, cut: bool) -> String {
    let look = draw.pick(&category.looks).to_lowercase();
    let thing = draw.pick(&category.things).to_lowercase();
    let first = draw.below(SENTENCES.len() as u64) as usize;
    let step = [1, 3, 7, 9][draw.below(4) as usize];
    let mut sentences = (0..SENTENCES.len()).map(|n| {
        SENTENCES[(first + n * step) % SENTENCES.len()].replace("{look}", &look).replace("{thing}", &thing)
    });

    let mut text = sentences.next().unwrap_or_default();
    match draw.below(1000) {
        0..5 => text = format!("<p style=\"font-size: 1em;\">{text}</p>"),
        5..25 => text = format!("{} {text}", draw.pick(&FLOURISHES)),
        25..40 => text = text.replace('\'', "’"),
        _ => {}
    }
    if cut {
        while text.chars().count() <= DESCRIPTION_MAX {
            text.push(' ');
            text.push_str(&sentences.next().unwrap_or_default());
        }
        let keep = DESCRIPTION_MAX - CUT.chars().count() - draw.below(4) as usize;
        return format!("{}{CUT}", cut_at(&text, keep));
    }
    for more in sentences.take(draw.below(3) as usize) {
        if text.chars().count() + 1 + more.chars().count() <= DESCRIPTION_MAX {
            text = format!("{text} {more}");
        }
    }
    cut_at(&text, DESCRIPTION_MAX)
}

/// Nine different tags, joined by commas.
pub(crate) fn tags(draw: &mut Draw, category: &Category) -> String {
    let pairs = (category.looks.len() * category.things.len()) as u64;
    let (first, step) = (draw.below(pairs), STEPS[draw.below(STEPS.len() as u64) as usize]);
    let tag = |n: u64| {
        let pair = ((first + n * step) % pairs) as usize;
        let (look, thing) =
            (category.looks[pair / category.things.len()], category.things[pair % category.things.len()]);
        (look, thing)
    };
    let mut tags = Vec::with_capacity(9);
    for n in 0..9 {
        let (look, thing) = tag(n);
        let end = draw.pick(&TAG_ENDS);
        tags.push(if end.is_empty() { format!("{look} {thing}") } else { format!("{look} {thing} {end}") });
    }
    tags.join(",")
}

pub(crate) fn shop(draw: &mut Draw) -> String {
    format!("{} {}", draw.pick(&SHOP_HEADS), draw.pick(&SHOP_TAILS))
}

/// Letters of the mathematical alphabet, which people use to write "bold" and which are all beyond the basic plane.
pub(crate) fn fancy_letters(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            'A'..='Z' => char::from_u32(0x1D468 + (c as u32 - 'A' as u32)).unwrap_or(c),
            'a'..='z' => char::from_u32(0x1D482 + (c as u32 - 'a' as u32)).unwrap_or(c),
            _ => c,
        })
        .collect()
}

/// The first `max` characters, without blanks at the end.
fn cut_at(text: &str, max: usize) -> String {
    let end = text.char_indices().nth(max).map_or(text.len(), |(at, _)| at);
    text[..end].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::draw::{Lane, Seed};
    use super::super::words::CATEGORIES;
    use super::*;

    #[test]
    fn nine_tags_are_nine_and_different() {
        let seed = Seed::new(pinmill_testkit::seed());
        for n in 0..2_000 {
            let tags = tags(&mut seed.draw(Lane::Pin, n), &CATEGORIES[n as usize % CATEGORIES.len()]);
            let mut parts: Vec<_> = tags.split(',').collect();
            assert_eq!(parts.len(), 9, "{tags}");
            parts.sort_unstable();
            parts.dedup();
            assert_eq!(parts.len(), 9, "{tags}");
        }
    }

    #[test]
    fn text_keeps_to_its_column() {
        let seed = Seed::new(pinmill_testkit::seed());
        for n in 0..5_000 {
            let draw = &mut seed.draw(Lane::Pin, n);
            let category = &CATEGORIES[n as usize % CATEGORIES.len()];
            let title = title(draw, category);
            assert!((1..=TITLE_MAX).contains(&title.chars().count()), "{title}");
            let cut = n % 2 == 0;
            let description = description(draw, category, cut);
            assert!((1..=DESCRIPTION_MAX).contains(&description.chars().count()), "{description}");
            assert_eq!(description.ends_with(CUT), cut, "{description}");
        }
    }

    #[test]
    fn cutting_counts_characters_and_not_bytes() {
        assert_eq!(cut_at("é🎨abc", 2), "é🎨");
        assert_eq!(cut_at("ab  cd", 4), "ab");
        assert_eq!(cut_at("ab", 2), "ab");
    }
}
