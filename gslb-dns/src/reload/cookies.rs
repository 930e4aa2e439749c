//! The secrets of cookies: from their file, or by chance.

use shared::problem::Problem;

use super::{Reader, Stamp, World};
use crate::cookie::{BadSecrets, Secret, Secrets};
use crate::settings::{CookieSettings, NamedFiles};

impl Reader {
    /// The secrets in the file that the settings name.
    pub(super) fn read_secrets(&mut self, named: &NamedFiles) -> Option<Secrets> {
        let path = self.folder.join(named.cookie_secret_file.as_ref()?);
        self.files.stamps.push((path.clone(), Stamp::of(&path)));
        let text = self.read_exposed(&path, "server.cookies.secret_file")?;
        let read = Secrets::parse(&text).map_err(|error| {
            let line = match error {
                BadSecrets::NotHex { line } | BadSecrets::TooMany { line } => Some(line),
                BadSecrets::Missing => None,
            };
            let file = path.display().to_string();
            self.problems.push(Problem { file, line, key: String::new(), what: error.to_string() });
        });
        read.ok()
    }

    /// What cookies are made with, by `settings` and what was `read`; without a file what chance gave first, which holds
    /// as long as the process.
    pub(super) fn cookies_in_force(
        &mut self,
        settings: &CookieSettings,
        read: Option<Secrets>,
        last: Option<&World>,
    ) -> Option<Secrets> {
        let is_by_chance = |last: &&World| last.settings.server.cookies.secret_file.is_none();
        match (settings.is_enabled, settings.secret_file.is_some()) {
            (false, _) => None,
            (true, true) => read,
            (true, false) => {
                last.filter(is_by_chance).and_then(|last| last.cookies).or_else(|| self.secret_by_chance())
            }
        }
    }

    fn secret_by_chance(&mut self) -> Option<Secrets> {
        let mut octets = [0; Secret::LEN];
        match getrandom::fill(&mut octets) {
            Ok(()) => Some(Secrets { current: Secret::new(octets), also_accepted: None }),
            Err(error) => {
                let key = "server.cookies.secret_file".to_owned();
                let what = format!("missing, and the system gives no random secret ({error}): expected a file");
                self.problems.push(Problem { file: String::new(), line: None, key, what });
                None
            }
        }
    }
}
