//! Pins: the post itself and the account that posted it.

use twox_hash::XxHash3_64;
use uuid::Builder;

use super::draw::{Draw, Lane, Ranks, Seed};
use super::text;
use super::words::{CATEGORIES, Category, FIRST_NAMES, FLOURISHES, LAST_HEADS, LAST_TAILS};
use super::{BLOCK, PinRow};

/// What the scraper wrote where it found nothing.
const NO_TITLE: &str = "No Title Data Available";
const NO_STORY: &str = "No description available Story format";
const NO_DESCRIPTION: &str = "No description available";
const UNTITLED: &str = "Untitled";
const NO_USER: &str = "User Info Error";
const NO_TAGS: &str = "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e";
const NO_IMAGE: &str = "Image src error.";

/// Accounts with many posts in a block of rows, and the share of posts that they make.
const KNOWN_ACCOUNTS: usize = 600;
const KNOWN_SHARE: f64 = 0.6;

/// The kind of a post, with what is missing in it: the errors come in groups.
enum Kind {
    Image,
    Video,
    Story,
    /// A story of which the scraper saw the tags and the caption only.
    StoryWithoutImage,
    /// A story of which the scraper saw nothing.
    StoryWithoutAnything,
}

#[derive(Debug)]
pub(crate) struct Accounts(Ranks);

impl Accounts {
    pub(crate) fn new() -> Self {
        // (rank + 1) to the power of -3/4: the busiest account makes a fiftieth of all posts
        Self(Ranks::new(KNOWN_ACCOUNTS, |rank| {
            let root = (rank + 1.0).sqrt();
            1.0 / (root * root.sqrt())
        }))
    }

    /// Name and follower count of the account that posted row `id`.
    fn of(&self, seed: &Seed, draw: &mut Draw, id: u64) -> (String, String) {
        // Even numbers are the known accounts, which post in every block; odd ones post once.
        let number = if draw.chance(KNOWN_SHARE) { self.0.draw(draw) as u64 * 2 } else { id * 2 + 1 };
        let name = account_name(&mut seed.draw(Lane::Poster, number), number);
        // Followers belong to the name, whichever number has it; for one account in 200 the scraper saw a second count.
        let hash = XxHash3_64::oneshot(name.as_bytes()) >> 4;
        let mut account = seed.draw(Lane::Account, hash);
        let first = follower_count(&mut account);
        let counts =
            if account.chance(0.005) { vec![first, follower_count(&mut account)] } else { vec![first] };
        let count = counts[draw.below(counts.len() as u64) as usize].clone();
        (name, count)
    }
}

pub(crate) fn pin(seed: &Seed, accounts: &Accounts, id: u64) -> PinRow {
    let mut draw = seed.draw(Lane::Pin, id);
    let category = category(id);
    let kind = kind(&mut draw);
    let (poster_name, follower_count) = accounts.of(seed, &mut draw, id);
    let unique_id = Builder::from_random_bytes(wide(&mut draw).to_be_bytes()).into_uuid().to_string();
    let image = wide(&mut draw);
    let mut row = PinRow {
        index: id,
        unique_id,
        title: text::title(&mut draw, category),
        description: description(&mut draw, category),
        poster_name,
        follower_count,
        tag_list: if draw.chance(0.006) { NO_TAGS.to_owned() } else { text::tags(&mut draw, category) },
        is_image_or_video: "image",
        image_src: String::new(),
        downloaded: 1,
        save_location: format!("Local save in /data/{}", category.name),
        category: category.name,
    };
    let picture = |folder: &str, end: &str| {
        let hex = format!("{image:032x}");
        format!("https://img.pinmill.example/{folder}/{}/{}/{}/{hex}{end}", &hex[..2], &hex[2..4], &hex[4..6])
    };
    match kind {
        Kind::Image => {
            row.image_src = picture("originals", [".jpg", ".jpg", ".jpg", ".png"][draw.below(4) as usize]);
        }
        Kind::Video => {
            row.is_image_or_video = "video";
            row.image_src = picture("videos/thumbnails/originals", ".0000001.jpg");
        }
        Kind::Story | Kind::StoryWithoutImage | Kind::StoryWithoutAnything => {
            row.is_image_or_video = "multi-video(story page format)";
            row.description = NO_STORY.to_owned();
            row.image_src = picture("videos/thumbnails/originals", ".0000001.jpg");
        }
    }
    if matches!(kind, Kind::StoryWithoutImage | Kind::StoryWithoutAnything) {
        row.image_src = NO_IMAGE.to_owned();
        row.downloaded = 0;
    }
    if matches!(kind, Kind::StoryWithoutAnything) {
        row.title = NO_TITLE.to_owned();
        row.poster_name = NO_USER.to_owned();
        row.follower_count = NO_USER.to_owned();
        row.tag_list = NO_TAGS.to_owned();
    }
    row
}

/// Categories lie in blocks of ids, and the blocks come again every [`BLOCK`] rows.
fn category(id: u64) -> &'static Category {
    let position = id % BLOCK;
    CATEGORIES.iter().find(|category| position < category.end).unwrap_or(&CATEGORIES[0])
}

/// 89 % images, 3 % videos, 8 % stories; every eighth story is an error throughout, every sixth has no image.
fn kind(draw: &mut Draw) -> Kind {
    match draw.below(1000) {
        0..10 => Kind::StoryWithoutAnything,
        10..23 => Kind::StoryWithoutImage,
        23..80 => Kind::Story,
        80..110 => Kind::Video,
        _ => Kind::Image,
    }
}

fn description(draw: &mut Draw, category: &Category) -> String {
    match draw.below(1000) {
        0..17 => NO_DESCRIPTION.to_owned(),
        17 => UNTITLED.to_owned(),
        // a third of all rows, stories included
        18..388 => text::description(draw, category, true),
        _ => text::description(draw, category, false),
    }
}

/// 17 % below a thousand, 74 % thousands, 9 % millions, small numbers more often than large ones and 15M the greatest.
fn follower_count(draw: &mut Draw) -> String {
    let share = draw.below(1000);
    let u = draw.unit();
    let falling = |from: u64, to: u64| from + (u * u * (to + 1 - from) as f64) as u64;
    match share {
        0..170 => falling(0, 999).to_string(),
        170..920 => format!("{}k", falling(1, 999)),
        _ => format!("{}M", falling(1, 15)),
    }
}

fn account_name(draw: &mut Draw, number: u64) -> String {
    let plain = match draw.below(10) {
        0..3 => format!("{} {}{}", draw.pick(&FIRST_NAMES), draw.pick(&LAST_HEADS), draw.pick(&LAST_TAILS)),
        3..6 => text::shop(draw),
        6 => format!("The {}", text::shop(draw)),
        7 => format!("{} & {}", draw.pick(&FIRST_NAMES), draw.pick(&FIRST_NAMES)),
        8 => format!("{}.example", text::shop(draw).replace(' ', "")),
        _ => format!("{} | by {} {}.", text::shop(draw), draw.pick(&FIRST_NAMES), draw.pick(&FLOURISHES)),
    };
    // There are more accounts than such names; the later ones have numbers, as late-comers do.
    let plain = if number.is_multiple_of(2) { plain } else { format!("{plain} {}", 1 + draw.below(9_999)) };
    match draw.below(1000) {
        0..13 => format!("{plain} "),
        13..18 => format!(" {plain}"),
        18..22 => format!("{} ♡", text::fancy_letters(&plain)),
        _ => plain,
    }
}

fn wide(draw: &mut Draw) -> u128 {
    (u128::from(draw.bits()) << 64) | u128::from(draw.bits())
}
