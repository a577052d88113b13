//! The words that captions, tags and names are composed of.

/// One of the thirteen categories: its name, the first position of a block of rows that is no longer its own, and its words
/// in title case, so that a caption needs no further spelling.
pub(crate) struct Category {
    pub(crate) name: &'static str,
    pub(crate) end: u64,
    /// Plural nouns.
    pub(crate) things: [&'static str; 12],
    /// What such things are.
    pub(crate) looks: [&'static str; 10],
}

#[rustfmt::skip]
pub(crate) const CATEGORIES: [Category; 13] = [
    Category { name: "art", end: 892,
        things: ["Watercolours", "Charcoal Sketches", "Murals", "Linocuts", "Oil Portraits", "Paper Cuttings", "Clay Figures",
            "Colour Studies", "Ink Drawings", "Collages", "Pastel Skies", "Sketchbook Pages"],
        looks: ["Abstract", "Luminous", "Loose", "Monochrome", "Botanical", "Whimsical", "Layered", "Geometric", "Folk", "Surreal"] },
    Category { name: "beauty", end: 1637,
        things: ["Face Masks", "Lip Tints", "Evening Routines", "Nail Designs", "Braids", "Serums", "Brow Shapes", "Fringe Cuts",
            "Eye Palettes", "Hair Colours", "Hand Creams", "Perfume Notes"],
        looks: ["Glossy", "Gentle", "Natural", "Dewy", "Five-Minute", "Bold", "Soft", "Vegan", "Summer", "Winter"] },
    Category { name: "christmas", end: 2637,
        things: ["Wreaths", "Advent Calendars", "Gingerbread Houses", "Stockings", "Tree Toppers", "Paper Stars", "Mantel Garlands",
            "Gift Tags", "Porch Lanterns", "Table Settings", "Snow Globes", "Carol Evenings"],
        looks: ["Rustic", "Sparkling", "Farmhouse", "Scandinavian", "Homemade", "Vintage", "Snowy", "Candlelit", "Red and White", "Merry"] },
    Category { name: "diy-and-crafts", end: 3467,
        things: ["Macrame Hangers", "Bottle Lamps", "Felt Animals", "Paper Flowers", "Bird Feeders", "Candle Moulds", "Patchwork Bags",
            "Photo Frames", "Friendship Bracelets", "Salt-Dough Charms", "Bookmarks", "Pallet Shelves"],
        looks: ["Upcycled", "No-Sew", "Easy", "Rainy-Day", "Budget", "Hand-Dyed", "Tiny", "Weekend", "Knitted", "Recycled"] },
    Category { name: "education", end: 4329,
        things: ["Lesson Plans", "Reading Corners", "Spelling Games", "Number Lines", "Science Fairs", "Bulletin Boards", "Story Maps",
            "Phonics Cards", "Classroom Routines", "Study Notes", "Geography Quizzes", "Exit Tickets"],
        looks: ["Hands-On", "Printable", "Playful", "Quiet", "Outdoor", "Elementary", "Calm", "Curious", "Bilingual", "Inclusive"] },
    Category { name: "event-planning", end: 5077,
        things: ["Guest Lists", "Seating Charts", "Invitation Suites", "Welcome Signs", "Dessert Tables", "Garden Parties",
            "Planner Checklists", "Stage Designs", "Vendor Contracts", "Photo Corners", "Budget Sheets", "Brunch Menus"],
        looks: ["Elegant", "Intimate", "Corporate", "Last-Minute", "Outdoor", "Colourful", "Minimal", "Grand", "Surprise", "Themed"] },
    Category { name: "finance", end: 5864,
        things: ["Budgets", "Savings Jars", "Index Funds", "Expense Trackers", "Side Incomes", "Emergency Funds", "Debt Ladders",
            "Pension Plans", "Meal Budgets", "Money Habits", "Credit Reports", "No-Spend Weeks"],
        looks: ["Simple", "Realistic", "Monthly", "Frugal", "Automatic", "Honest", "Family", "First-Time", "Weekly", "Long-Term"] },
    Category { name: "home-decor", end: 6725,
        things: ["Living Rooms", "Reading Nooks", "Open Shelves", "Hallways", "Window Seats", "Gallery Walls", "Linen Curtains",
            "Kitchen Islands", "Bedroom Lamps", "Wall Panels", "Balconies", "Rugs"],
        looks: ["Cosy", "Coastal", "Japandi", "Warm", "Industrial", "Rented", "Small", "Sunlit", "Earthy", "Mid-Century"] },
    Category { name: "mens-fashion", end: 7575,
        things: ["Overcoats", "Knit Ties", "Chinos", "Desert Boots", "Denim Jackets", "Linen Shirts", "Capsule Wardrobes", "Scarves",
            "Suits", "Leather Belts", "Trainers", "Haircuts"],
        looks: ["Casual", "Tailored", "Autumn", "Smart", "Relaxed", "Navy", "Street", "Classic", "Layered", "Travel"] },
    Category { name: "quotes", end: 8487,
        things: ["Morning Lines", "Words on Courage", "Friendship Verses", "Short Poems", "Notes to Self", "Lines on Patience",
            "Letters Never Sent", "Sayings on Hope", "Words for Hard Days", "Lines on Love", "Thoughts on Change", "Proverbs"],
        looks: ["Quiet", "Honest", "Funny", "Hopeful", "Gentle", "Wise", "Bittersweet", "Daily", "Strong", "Healing"] },
    Category { name: "tattoos", end: 9457,
        things: ["Wrist Tattoos", "Fern Tattoos", "Finger Tattoos", "Compass Tattoos", "Sleeve Designs", "Moon Phases",
            "Matching Tattoos", "Swallow Tattoos", "Mountain Lines", "Lettering Tattoos", "Wildflower Bouquets", "Ankle Tattoos"],
        looks: ["Fine-Line", "Minimal", "Blackwork", "Traditional", "Delicate", "Dotwork", "Watercolour", "First", "Meaningful", "Small"] },
    Category { name: "travel", end: 10315,
        things: ["Island Hops", "City Weekends", "Night Trains", "Mountain Huts", "Beach Walks", "Road Trips", "Packing Lists",
            "Street Markets", "Hidden Coves", "Temple Routes", "Bicycle Tours", "Harbour Towns"],
        looks: ["Slow", "Affordable", "Solo", "Family", "Off-Season", "Scenic", "Quiet", "Unforgettable", "Winter", "Two-Day"] },
    Category { name: "vehicles", end: 11154,
        things: ["Camper Vans", "Roadsters", "Old Tractors", "Cafe Racers", "Pickup Trucks", "Electric Bicycles", "Rally Cars",
            "Steam Engines", "Scooters", "Sailing Boats", "Hatchbacks", "Garage Builds"],
        looks: ["Restored", "Electric", "Matte Black", "Off-Road", "Rare", "Chrome", "Two-Tone", "Custom", "Everyday", "Fast"] },
];

/// Most tags are a pair of words and nothing more.
pub(crate) const TAG_ENDS: [&str; 12] =
    ["", "", "", "", "", "", "Ideas", "Ideas", "Inspiration", "Design", "Tips", "Aesthetic"];

pub(crate) const OCCASIONS: [&str; 16] = [
    "Small Flats",
    "Busy Mornings",
    "Beginners",
    "the Whole Family",
    "Late Summer",
    "a Long Weekend",
    "Rainy Sundays",
    "the New Year",
    "Curious People",
    "Tight Budgets",
    "Your Best Friend",
    "Quiet Evenings",
    "Every Season",
    "Next Spring",
    "People Who Have No Time",
    "the Office",
];

/// Sentences of descriptions; `{thing}` and `{look}` stand for words of the category, in lower case.
pub(crate) const SENTENCES: [&str; 20] = [
    "These {look} {thing} took an afternoon and a pot of tea.",
    "Here is how we made {thing} that last, step by step, with a list of what you need.",
    "If you like {look} {thing}, you'll love what our readers sent in this month!",
    "It's easier than it looks: start with the {look} kind and work from there.",
    "A short guide to {thing}: what to choose, what to avoid & what to spend.",
    "We asked twelve people about their favourite {thing} and were surprised by the answers.",
    "Save this one for later, because {look} {thing} are everywhere this year.",
    "Free template inside; print it, cut it, share it.",
    "Nobody tells you this about {thing}, so I wrote it down.",
    "From our archive: the {look} {thing} that everybody keeps asking about.",
    "Bring {look} charm to an ordinary day with ideas that cost next to nothing.",
    "What to do when {thing} go wrong, and why that is part of the fun.",
    "Updated with new pictures, a video and three more {look} examples.",
    "The best {thing} are the ones you finish; these seven can be done in an hour.",
    "My grandmother kept {thing} in every room, and now I know why.",
    "Read on for measurements (in cm and inches), a materials list and common mistakes.",
    "Photographs by the author; all {thing} shown are our own.",
    "You don't need much room for {look} {thing}, only a little patience.",
    "Part 3 of our series on {thing} - new every Thursday.",
    "Which of these {look} {thing} would you try first?",
];

/// Pieces that a caption outside ASCII begins or ends with: emoji within and beyond the basic plane, joined emoji, other
/// scripts (two of them right to left), combining marks and typographer's signs.
pub(crate) const FLOURISHES: [&str; 24] = [
    "🌿",
    "✨ ✨",
    "🎨🖌️",
    "👩‍🎨",
    "🏳️‍🌈",
    "❤️",
    "🚐💨",
    "🧵🪡",
    "💸",
    "🕯️",
    "👍🏽",
    "🇦🇱",
    "– déjà vu",
    "• naïve",
    "— Teil zwei",
    "’round here",
    "идеи для дома",
    "アイデア集",
    "설명서",
    "أفكار جديدة",
    "רעיונות",
    "नए विचार",
    "e\u{301}tude",
    "1½ × 2 m",
];

/// First halves of made-up blog and shop names.
pub(crate) const SHOP_HEADS: [&str; 32] = [
    "Paper", "Maple", "Salt", "Fern", "Copper", "Velvet", "Harbour", "Juniper", "Lantern", "Meadow",
    "Pebble", "Willow", "Thistle", "Amber", "Clover", "Indigo", "Hazel", "Marble", "Saffron", "Timber",
    "Cotton", "Ember", "Ivory", "Lemon", "Moss", "North", "Orchid", "Plum", "Quill", "River", "Sparrow",
    "Tulip",
];

/// Second halves of made-up blog and shop names.
pub(crate) const SHOP_TAILS: [&str; 24] = [
    "Studio",
    "Workshop",
    "Journal",
    "House",
    "Kitchen",
    "Collective",
    "Press",
    "Garden",
    "Atelier",
    "Diary",
    "Market",
    "Lane",
    "Attic",
    "Notebook",
    "Supply",
    "Club",
    "Bureau",
    "Corner",
    "Stories",
    "Letters",
    "Room",
    "Works",
    "Garage",
    "Parlour",
];

#[rustfmt::skip]
pub(crate) const FIRST_NAMES: [&str; 160] = [
    "Ada", "Adele", "Agnes", "Alan", "Alba", "Alec", "Alfred", "Alma", "Amos", "Andre", "Anika", "Anton", "April", "Archie",
    "Arlo", "Astrid", "Aurora", "Barbara", "Basil", "Beatrix", "Bella", "Bernard", "Bianca", "Bjorn", "Blanca", "Boris",
    "Bruno", "Camille", "Carla", "Casper", "Cecilia", "Chloe", "Clara", "Clement", "Conrad", "Cora", "Cyril", "Dagmar",
    "Dalia", "Damian", "Daphne", "Darius", "Delia", "Denis", "Dora", "Dylan", "Edgar", "Edith", "Elias", "Elena", "Elliot",
    "Elsa", "Emil", "Enid", "Erik", "Esme", "Esther", "Eugene", "Fabian", "Farah", "Felix", "Fiona", "Flora", "Frances",
    "Freya", "Gaspard", "Gemma", "Gerda", "Gideon", "Greta", "Gustav", "Hana", "Harriet", "Hector", "Helga", "Henrik", "Hugo",
    "Ida", "Igor", "Imogen", "Ines", "Ingrid", "Iris", "Isak", "Ivo", "Jasmin", "Jens", "Joanna", "Jonas", "Josef", "Judith",
    "Julius", "Kamil", "Karin", "Kaspar", "Katja", "Kira", "Klara", "Konrad", "Lara", "Lars", "Leila", "Leo", "Linus", "Lotte",
    "Lucia", "Ludwig", "Luna", "Mabel", "Magnus", "Malik", "Marek", "Margot", "Marta", "Matilda", "Maxim", "Mila", "Milan",
    "Mira", "Nadia", "Nestor", "Nico", "Nina", "Noel", "Nora", "Odette", "Olaf", "Olga", "Oscar", "Otto", "Paloma", "Pavel",
    "Petra", "Phoebe", "Pia", "Quentin", "Rafael", "Ramona", "Renata", "Rhys", "Rolf", "Rosa", "Rupert", "Sabine", "Samir",
    "Selma", "Sigrid", "Silvan", "Stella", "Sven", "Tamara", "Theo", "Tilda", "Tomas", "Ursula", "Vera", "Viktor", "Wanda",
    "Yara", "Zora",
];

pub(crate) const LAST_HEADS: [&str; 24] = [
    "Alder", "Ash", "Barrow", "Black", "Bright", "Cold", "Dun", "Elm", "Fair", "Gold", "Grim", "Hart",
    "Hazel", "High", "Lang", "Mar", "Nether", "Oak", "Raven", "Stan", "Thorn", "Under", "West", "Wind",
];

pub(crate) const LAST_TAILS: [&str; 18] = [
    "berg", "bourne", "brook", "by", "combe", "croft", "dale", "field", "ford", "gate", "ham", "ley", "more",
    "ridge", "stead", "ton", "wick", "wood",
];
