//! `ocelli desktop`: the page of `ocelli serve`, a key away. What the screen shows when the key is pressed is what the
//! page asks about.

use std::io::Cursor;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, bail};
use arboard::Clipboard;
use clap::Args;
use global_hotkey::hotkey::HotKey;
use global_hotkey::{GlobalHotKeyEvent, GlobalHotKeyManager, HotKeyState};
use image::{ImageFormat, RgbaImage};
use tray_icon::menu::{Menu, MenuEvent, MenuItem};
use tray_icon::{Icon, TrayIcon, TrayIconBuilder};
use xcap::Monitor;

use crate::Outcome;
use crate::output::Output;
use crate::serve::{self, ServeArgs, Served};

/// Wait in the tray, and answer questions about what the screen shows when a key is pressed
#[derive(Debug, Args)]
pub(crate) struct DesktopArgs {
    /// The keys to press, wherever you are
    #[arg(long, value_name = "KEYS", default_value = "Control+Alt+O")]
    hotkey: HotKey,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// What is wished for, from the tray or by keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Screen,
    Clipboard,
    Open,
    Quit,
}

/// The lines of the tray's menu.
const MENU: [(&str, Wish); 4] = [
    ("Ask about the screen", Wish::Screen),
    ("Ask about the clipboard's picture", Wish::Clipboard),
    ("Open", Wish::Open),
    ("Quit", Wish::Quit),
];

pub(crate) fn run(args: DesktopArgs, output: &mut Output) -> anyhow::Result<Outcome> {
    if !args.serve.is_for_this_machine() {
        bail!("the screen is shown to this machine only: --listen must be an address of its own");
    }
    serve::serve(args.serve, output, |served, output| {
        if served.desk.is_none() {
            bail!("without a folder for conversations the page cannot be shown anything");
        }
        let (wish, wishes) = channel();
        let (tell, begun) = channel();
        // Keys and tray belong to the thread that made them.
        let work = move || {
            let keys = listen(args.hotkey, wish.clone());
            let tray = tray(wish);
            let lacks = [keys.as_ref().err(), tray.as_ref().err()];
            let _ = tell.send(lacks.map(|error| Some(format!("{:#}", error?))));
            fulfil(&wishes, &served);
            drop((keys, tray));
        };
        thread::Builder::new().name("desktop".into()).spawn(work).context("no thread can be started")?;
        match begun.recv().context("neither keys nor a tray")? {
            [None, None] => {}
            [Some(error), None] => output.warning(&format!("{error}; the tray still asks")),
            [None, Some(error)] => output.warning(&format!("{error}; the keys still ask")),
            [Some(keys), Some(tray)] => bail!("{keys}, and {tray}"),
        }
        output.note(&format!("{} asks about the screen", args.hotkey));
        Ok(())
    })
}

/// Does what is wished for, until that is the end.
fn fulfil(wishes: &Receiver<Wish>, served: &Served) {
    let output = Output::new();
    for wish in wishes {
        let done = match wish {
            Wish::Screen => screen().and_then(|picture| show(served, &picture)),
            Wish::Clipboard => clipboard().and_then(|picture| show(served, &picture)),
            Wish::Open => open(&served.url),
            Wish::Quit => {
                served.stop.stop();
                return;
            }
        };
        if let Err(error) = done {
            output.error(&error);
        }
    }
}

/// Hands a picture to the page, which it opens.
fn show(served: &Served, picture: &RgbaImage) -> anyhow::Result<()> {
    let mut png = Vec::new();
    picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).context("the picture cannot be packed")?;
    let desk = served.desk.as_ref().context("there is no desk")?;
    *desk.look.lock().unwrap_or_else(PoisonError::into_inner) = Some(png);
    open(&format!("{}/?look", served.url))
}

fn open(url: &str) -> anyhow::Result<()> {
    open::that(url).with_context(|| format!("cannot open a browser; open {url} yourself"))
}

/// What the first screen shows, or the primary one if there is one.
fn screen() -> anyhow::Result<RgbaImage> {
    let mut monitors = Monitor::all().context("there is no screen that can be seen")?;
    let primary = monitors.iter().position(|monitor| monitor.is_primary().unwrap_or(false));
    if monitors.is_empty() {
        bail!("there is no screen");
    }
    let monitor = monitors.swap_remove(primary.unwrap_or(0));
    monitor.capture_image().context("the screen cannot be seen")
}

/// The picture in the clipboard.
fn clipboard() -> anyhow::Result<RgbaImage> {
    let picture = Clipboard::new().and_then(|mut clipboard| clipboard.get_image());
    let picture = picture.context("there is no picture in the clipboard")?;
    let (width, height) = (u32::try_from(picture.width)?, u32::try_from(picture.height)?);
    RgbaImage::from_raw(width, height, picture.bytes.into_owned())
        .context("the clipboard's picture is damaged")
}

/// Hears the keys for as long as what is returned lives.
fn listen(keys: HotKey, wish: Sender<Wish>) -> anyhow::Result<GlobalHotKeyManager> {
    let manager = GlobalHotKeyManager::new().context("no keys can be heard here (that needs X11)")?;
    manager.register(keys).with_context(|| format!("{keys} cannot be heard"))?;
    GlobalHotKeyEvent::set_event_handler(Some(move |event: GlobalHotKeyEvent| {
        if event.state == HotKeyState::Pressed {
            let _ = wish.send(Wish::Screen);
        }
    }));
    Ok(manager)
}

/// An icon with a menu, for as long as what is returned lives.
fn tray(wish: Sender<Wish>) -> anyhow::Result<TrayIcon> {
    let menu = Menu::new();
    let mut wishes = Vec::new();
    for (text, wish) in MENU {
        let item = MenuItem::new(text, true, None);
        menu.append(&item)?;
        wishes.push((item.id().clone(), wish));
    }
    MenuEvent::set_event_handler(Some(move |event: MenuEvent| {
        if let Some((_, wanted)) = wishes.iter().find(|(id, _)| *id == event.id) {
            let _ = wish.send(*wanted);
        }
    }));
    let tray = TrayIconBuilder::new().with_tooltip("Ocelli").with_icon(icon()?).with_menu(Box::new(menu));
    tray.build().context("there is no tray here")
}

/// Three simple eyes, as the page's icon has them.
fn icon() -> anyhow::Result<Icon> {
    const SIDE: u32 = 32;
    let eyes = [[16.0, 10.0], [9.5, 21.5], [22.5, 21.5]];
    let mut pixels = Vec::with_capacity((SIDE * SIDE * 4) as usize);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let distance = |[cx, cy]: [f32; 2]| (x as f32 + 0.5 - cx).hypot(y as f32 + 0.5 - cy);
            let nearest = eyes.into_iter().map(distance).fold(f32::MAX, f32::min);
            pixels.extend(match nearest {
                ..2.5 => [0x11, 0x5e, 0x59, 255],
                ..5.0 => [0xfc, 0xe1, 0x7a, 255],
                _ => [0x11, 0x5e, 0x59, 255],
            });
        }
    }
    Ok(Icon::from_rgba(pixels, SIDE, SIDE)?)
}
