//! The pipeline that is built into the binary: `pipelines/pinterest` of the source tree.

use include_dir::{Dir, include_dir};

use crate::load::Files;
use crate::model::Pipeline;
use crate::problem::Result;

static PINTEREST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../pipelines/pinterest");

impl Pipeline {
    /// The Pinterest pipeline: pins, their places and their users, cleaned, and the questions asked of them.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when the files that were built in are wrong, which a test of this crate rules out.
    pub fn built_in() -> Result<Self> {
        let mut files = Files::new();
        collect(&PINTEREST, &mut files);
        Self::from_files(&files)
    }
}

fn collect(dir: &Dir<'_>, files: &mut Files) {
    for file in dir.files() {
        if let (Some(path), Some(text)) = (file.path().to_str(), file.contents_utf8()) {
            files.insert(path.replace('\\', "/"), text.to_owned());
        }
    }
    for sub in dir.dirs() {
        collect(sub, files);
    }
}
