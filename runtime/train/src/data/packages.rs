//! The drawing packages: pinned, fetched by `npm pack` at run time, checked, never committed.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use sha2::{Digest as _, Sha512};

use super::icons::ICONS;
use super::things::{THINGS, ThingId};

/// One set of drawings in one hand.
#[derive(Debug)]
pub(crate) struct Style {
    /// npm package.
    package: &'static str,
    /// Pinned version.
    version: &'static str,
    /// SHA-512 of the packed file, as the package's own metadata states it (there in base64).
    sha512: &'static str,
    /// How the drawings are stored.
    form: Form,
    /// Share-alike sets only ever judge the model; it never trains on them.
    pub(crate) evaluation_only: bool,
    /// The drawings have no colours of their own, so that all of them are painted.
    pub(crate) tinted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `icons.json`: SVG bodies by the names of emoji.
    Svg,
    /// `icons.json`: SVG bodies by the names in [`ICONS`] and this ending.
    Icons(&'static str),
    /// One WebP a code point.
    Webp,
}

/// All styles. Licences: MIT (fluent, ph), Apache-2.0 (noto, fxemoji, mdi, icon-park), CC-BY-4.0 (twemoji, emojione,
/// streamline, fa6); CC-BY-SA-4.0 for the two evaluation-only sets.
pub(crate) const STYLES: [Style; 19] = [
    Style {
        package: "@lobehub/fluent-emoji-3d",
        version: "1.1.0",
        sha512: "5a5ab69554ad4e7afc043a48274a449d328ee0bb83c71a931214ef46d0f50cb445d267bba207914232a87a10c75ee549d9069e720979c1106feb4954006de1ee",
        form: Form::Webp,
        evaluation_only: false,
        tinted: false,
    },
    Style {
        package: "@iconify-json/fluent-emoji",
        version: "1.2.7",
        sha512: "0fc1ba6ca03222ccb13f5af366d216aff820fdf3b8460d7e0f209695fa8a2b887c5bee049bf6343fa4188095104e551c6a0cc9bd2ca0fbd381bf8873e0773f40",
        form: Form::Svg,
        evaluation_only: false,
        tinted: false,
    },
    Style {
        package: "@iconify-json/fluent-emoji-flat",
        version: "1.2.6",
        sha512: "458e3b4603dbe3b7d8522cab03ae2c20e2f4f94534dacdbdb17a4d05b2104415253e57cd1532949990c4446bb10ecffbc8d196a9062fb9a4983353387d15e553",
        form: Form::Svg,
        evaluation_only: false,
        tinted: false,
    },
    Style {
        package: "@iconify-json/noto",
        version: "1.2.9",
        sha512: "0d08ae5c435bba7e35721f973d2579e47f456962a91d3cb3e3a6082ad49a2980f87c80c3ccbd6d47a1f89e9fd3dfc8dfad301e237adc285d26a8761e65502e6b",
        form: Form::Svg,
        evaluation_only: false,
        tinted: false,
    },
    Style {
        package: "@iconify-json/noto-v1",
        version: "1.2.5",
        sha512: "fc3b15322bacebd4347d14b9df3ed02b54d1392b9aafad3a8e2231fa5697b5db1818c5e97fa2ed1c1c7a0867e8a375071dbfd7a41b30fb52f5c777b23ea32e54",
        form: Form::Svg,
        evaluation_only: false,
        tinted: false,
    },
    Style {
        package: "@iconify-json/fxemoji",
        version: "1.2.2",
        sha512: "5006ac45ac7315429f2064a62f09e86abb2cb00e0b5f454b2ee126a6522a33a64d42a21046d6aff2d6781f59de4e506b797b8c4320227ebe633f8927efc0e989",
        form: Form::Svg,
        evaluation_only: false,
        tinted: false,
    },
    Style {
        package: "@iconify-json/twemoji",
        version: "1.2.5",
        sha512: "b8aa6e204574bfa2b9056dcc8ddca5f972855406db70fc408227cabc432d668519079f98898e7368c9b6b8d342c725f301653dc8d2e58f8d5653afe6be000bb3",
        form: Form::Svg,
        evaluation_only: false,
        tinted: false,
    },
    Style {
        package: "@iconify-json/emojione",
        version: "1.2.3",
        sha512: "4fdf93dc721b24d2ca2ac9b160a95a621be71d8933fc73584d5ed21c25d564f7de522e05aac918ef461e37cc980194fc702bfbc39bc9c52e10d66f336fd08c32",
        form: Form::Svg,
        evaluation_only: false,
        tinted: false,
    },
    Style {
        package: "@iconify-json/openmoji",
        version: "1.2.29",
        sha512: "bd776192a7175523bab2ecbe9bd2db71433739d572b8d3ada55f3f6a5b3f5aa7e44084717af2f919e6ff83ee861ff4309ead4eaa4b0499a0c64c2999e6714a25",
        form: Form::Svg,
        evaluation_only: true,
        tinted: false,
    },
    Style {
        package: "@iconify-json/emojione-v1",
        version: "1.2.3",
        sha512: "52323655011756d1a53c1bd0bb1122ceba3b4028017090ce630294ba9aaebef67c515e313a5be6e39214f3625859e8220162dead8efd8052cc676e94e8cb3ec3",
        form: Form::Svg,
        evaluation_only: true,
        tinted: false,
    },
    Style {
        package: "@iconify-json/streamline-emojis",
        version: "1.2.4",
        sha512: "88dafd4fd5ee6554f240f24ef1994bc41ccf9298bba8c97ecf59740b7d6fa4432a84f31e96d8779fb09e59062d8b175eb433dd23cd72786e113aa8d6a58244e8",
        form: Form::Icons(""),
        evaluation_only: false,
        tinted: false,
    },
    Style {
        package: "@iconify-json/streamline-color",
        version: "1.2.2",
        sha512: "fb2a5ce24cde29315b1d5336b8d585aadd6247b1385de31323759adcb7267872cf8f293abba7bd349aaa387514d36ae903c19a37cd171f2497cd7fb80ee65bcc",
        form: Form::Icons(""),
        evaluation_only: false,
        tinted: true,
    },
    Style {
        package: "@iconify-json/streamline-color",
        version: "1.2.2",
        sha512: "fb2a5ce24cde29315b1d5336b8d585aadd6247b1385de31323759adcb7267872cf8f293abba7bd349aaa387514d36ae903c19a37cd171f2497cd7fb80ee65bcc",
        form: Form::Icons("-flat"),
        evaluation_only: false,
        tinted: true,
    },
    Style {
        package: "@iconify-json/ph",
        version: "1.2.2",
        sha512: "3e090464db6a6bc8411a31d741ae2933065af778667eef055128ecfe7bf8a1453ac8bb20bfe821f67bb6f0aaa2f05cfd08256ee218f5319b3dffad09e7b23317",
        form: Form::Icons("-fill"),
        evaluation_only: false,
        tinted: true,
    },
    Style {
        package: "@iconify-json/mdi",
        version: "1.2.3",
        sha512: "3b770bc1b0ce2bb34d0dfda285a40e1f917d260967ba5343155ed6a6b536752a19bb78777161fffe1ef8b90001f3b6eb1e6bc557120e92e057dac652cd885272",
        form: Form::Icons(""),
        evaluation_only: false,
        tinted: true,
    },
    Style {
        package: "@iconify-json/fa6-solid",
        version: "1.2.4",
        sha512: "2e60cd35d255caf17998f9b5cb15af2fc2a309cfc4f0bce8aa71752cd4d5a72636649454946396b8f21385d6ee141176228be0b6d908cae9a1caa7e69477702a",
        form: Form::Icons(""),
        evaluation_only: false,
        tinted: true,
    },
    Style {
        package: "@iconify-json/icon-park",
        version: "1.2.4",
        sha512: "4bc7d5978f4b1bf33d86fc1beebb851889cadb500732fdc825e84e2512605cf2c4dfd38e08fdf06df4d68eba3f5f3b23c51c1dbd7fe561d19eb453992344da25",
        form: Form::Icons(""),
        evaluation_only: false,
        tinted: true,
    },
    Style {
        package: "@iconify-json/fluent-emoji-high-contrast",
        version: "1.2.6",
        sha512: "7acaa164fa64ac5eec357dcdb0ba21f0a5bae28904aff6f3928ed636714ffaa4c9180a833c3623a74f76e72c6e8af5f2dc7b55401f318482aedfe36ad5bc97e7",
        form: Form::Svg,
        evaluation_only: false,
        tinted: true,
    },
    Style {
        package: "@iconify-json/emojione-monotone",
        version: "1.2.1",
        sha512: "71948d70fb2e8800fa1c2cc287fd9d60a1a1de9348d23265c41c5059f0b7ddc42c3eda9866aba5181be591385760dbc397c5718151d3f6efa2cf25ffc9e10890",
        form: Form::Svg,
        evaluation_only: false,
        tinted: true,
    },
];

/// One drawing as its package holds it.
#[derive(Debug)]
pub(crate) enum Source {
    /// A complete SVG document.
    Svg(String),
    /// A WebP file.
    Webp(Vec<u8>),
}

/// What to look for in a package.
#[derive(Debug)]
struct Wanted {
    thing: ThingId,
    /// The emoji; icons have none.
    glyph: Option<char>,
    /// Icon name.
    name: String,
}

impl Style {
    /// The drawings of our things that this package has.
    ///
    /// `folder` keeps the packed file for the next start.
    ///
    /// # Errors
    /// If the package cannot be fetched, is not the pinned one, or does not have the expected files.
    pub(crate) fn read(&self, folder: &Path) -> Result<Vec<(ThingId, Source)>> {
        let wanted = self.wanted();
        let packed = self.fetch(folder)?;
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let mut drawings = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            match self.form {
                Form::Svg | Form::Icons(_) if path == "package/icons.json" => {
                    let mut text = String::new();
                    entry.read_to_string(&mut text)?;
                    return svg_drawings(&text, &wanted).with_context(|| format!("reading {}", self.package));
                }
                Form::Svg | Form::Icons(_) => {}
                Form::Webp => {
                    let found = wanted.iter().find(|wanted| {
                        let code = wanted.glyph.map_or(0, u32::from);
                        path == format!("package/assets/{code:x}.webp")
                            || path == format!("package/assets/{code:x}-fe0f.webp")
                    });
                    if let Some(Wanted { thing, .. }) = found {
                        let mut bytes = Vec::new();
                        entry.read_to_end(&mut bytes)?;
                        drawings.push((*thing, Source::Webp(bytes)));
                    }
                }
            }
        }
        ensure!(self.form == Form::Webp, "package {} has no icons.json", self.package);
        Ok(drawings)
    }

    /// All that a package in this form may have.
    fn wanted(&self) -> Vec<Wanted> {
        let things = THINGS.iter().enumerate();
        match self.form {
            Form::Icons(ending) => {
                let names =
                    |noun| ICONS.iter().find(|(of, _)| *of == noun).map_or(&[][..], |(_, names)| *names);
                let named =
                    |thing, name: &str| Wanted { thing, glyph: None, name: format!("{name}{ending}") };
                things
                    .flat_map(|(id, thing)| names(thing.noun).iter().map(move |name| named(id, name)))
                    .collect()
            }
            Form::Svg | Form::Webp => things
                .flat_map(|(id, thing)| thing.glyphs.iter().map(move |glyph| (id, glyph)))
                .map(|(thing, (glyph, name))| Wanted { thing, glyph: Some(*glyph), name: (*name).into() })
                .collect(),
        }
    }

    /// Names this style's drawings, so that those of another version are not taken for them.
    pub(crate) fn fingerprint(&self) -> u64 {
        let names = self.wanted().into_iter().map(|wanted| wanted.name);
        [self.package.to_string(), self.version.to_string()]
            .into_iter()
            .chain(names)
            .flat_map(String::into_bytes)
            .fold(0, |hash, byte| super::random::mix(hash ^ u64::from(byte)))
    }

    /// The packed file, from `folder` or else from the package registry.
    fn fetch(&self, folder: &Path) -> Result<Vec<u8>> {
        let name = self.package.trim_start_matches('@').replace('/', "-");
        let file: PathBuf = folder.join(format!("{name}-{}.tgz", self.version));
        if !file.exists() {
            let status = Command::new("npm")
                .args(["pack", "--silent", &format!("{}@{}", self.package, self.version)])
                .current_dir(folder)
                .stdout(std::process::Stdio::null())
                .status()
                .context("the drawings come from npm packages; install Node.js, which brings `npm`")?;
            ensure!(status.success(), "`npm pack {}@{}` failed", self.package, self.version);
        }
        let packed = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let found: String = Sha512::digest(&packed).iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(
            found == self.sha512,
            "{} is not the pinned package: sha512 {found}, expected {}; delete it and try again",
            file.display(),
            self.sha512
        );
        Ok(packed)
    }
}

/// The part of an Iconify `icons.json` that we read.
#[derive(Deserialize)]
struct IconSet {
    icons: HashMap<String, Icon>,
    #[serde(default)]
    aliases: HashMap<String, Alias>,
    #[serde(default = "default_side")]
    width: f32,
    #[serde(default = "default_side")]
    height: f32,
}

/// What Iconify takes for a side that a set does not state.
fn default_side() -> f32 {
    16.0
}

#[derive(Deserialize)]
struct Icon {
    body: String,
    width: Option<f32>,
    height: Option<f32>,
}

#[derive(Deserialize)]
struct Alias {
    parent: String,
}

fn svg_drawings(icons_json: &str, wanted: &[Wanted]) -> Result<Vec<(ThingId, Source)>> {
    let set: IconSet = serde_json::from_str(icons_json).context("icons.json has another form")?;
    // One of the sets writes names without hyphens, so all are compared that way.
    let bare = |name: &str| name.replace('-', "");
    let mut by_name: HashMap<String, &Icon> = HashMap::new();
    for (name, alias) in &set.aliases {
        if let Some(icon) = set.icons.get(&alias.parent) {
            by_name.insert(bare(name), icon);
        }
    }
    by_name.extend(set.icons.iter().map(|(name, icon)| (bare(name), icon)));
    Ok(wanted
        .iter()
        .filter_map(|Wanted { thing, name, .. }| {
            let icon = by_name.get(&bare(name))?;
            let (width, height) = (icon.width.unwrap_or(set.width), icon.height.unwrap_or(set.height));
            let svg = format!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width} {height}">{}</svg>"#,
                icon.body
            );
            Some((*thing, Source::Svg(svg)))
        })
        .collect())
}
