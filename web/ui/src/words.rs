//! What the page says, in the languages that it speaks.

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// English.
    English,
    /// Simplified Chinese.
    Chinese,
}

macro_rules! words {
    ($($name:ident: $english:literal, $chinese:literal;)*) => {
        /// All words of one language.
        pub(crate) struct Words {
            $(pub(crate) $name: &'static str,)*
        }

        static ENGLISH: Words = Words { $($name: $english,)* };
        static CHINESE: Words = Words { $($name: $chinese,)* };
    };
}

words! {
    tag: "en", "zh-CN";
    other_language: "中文", "English";
    skip: "Skip to content", "跳到内容";
    caption: "Caption", "图片描述";
    chat: "Chat", "对话";
    views: "Views", "视图";
    dark: "Dark", "深色";
    light: "Light", "浅色";
    model: "Model", "模型";
    no_model: "No model", "未加载模型";
    ready: "The model is ready.", "模型已就绪。";
    failed: "The model could not be loaded", "模型加载失败";
    try_again: "Try again", "重试";
    fetching: "Fetching the model", "正在下载模型";
    reading: "Reading the model from this device", "正在从本机读取模型";
    preparing: "Putting the model together", "正在准备模型";
    cancel: "Cancel", "取消";
    close: "Close", "关闭";
    private: "Everything is computed in this browser. Pictures never leave it.", "所有计算都在此浏览器中完成，图片不会离开本机。";
    sent: "Pictures and messages are sent to the server that you chose.", "图片和消息会发送到您选择的服务器。";
    drop_here: "Drop pictures here", "将图片拖到这里";
    drop_more: "or paste them with Ctrl+V", "或按 Ctrl+V 粘贴";
    choose: "Choose pictures", "选择图片";
    paste: "Paste", "粘贴";
    camera: "Camera", "摄像头";
    screen: "Screen", "屏幕";
    picture: "Picture", "图片";
    says: "What it shows", "内容";
    copy: "Copy", "复制";
    copied: "Copied.", "已复制。";
    copy_all: "Copy all", "全部复制";
    clear: "Clear", "清空";
    stop: "Stop", "停止";
    waiting: "waiting", "等待中";
    cancelled: "Stopped.", "已停止。";
    saw: "What the model saw", "模型看到了什么";
    saw_size: "Size", "尺寸";
    saw_patches: "Patches", "图块";
    saw_tokens: "Tokens", "词元";
    saw_changes: "Changed", "更改";
    saw_nothing_changed: "nothing", "无";
    saw_grid: "The picture as the model gets it. Thin lines part patches, thick ones the blocks that become a token each.", "模型得到的图片。细线分隔图块，粗线分隔各自成为一个词元的区块。";
    take: "Caption this moment", "描述当前画面";
    live: "Live captions", "实时描述";
    stop_live: "Stop live captions", "停止实时描述";
    close_camera: "Close", "关闭";
    rate: "captions a second", "条描述/秒";
    no_camera: "No picture from there", "无法获得画面";
    no_pictures: "There is no picture in the clipboard.", "剪贴板中没有图片。";
    not_pictures: "No picture was among these files.", "这些文件中没有图片。";
    done_of: "captioned", "已描述";
    you: "You", "您";
    answer: "Answer", "回答";
    conversation: "Conversation", "对话内容";
    ask: "Ask something", "输入问题";
    attach: "Add picture", "添加图片";
    remove: "Remove", "移除";
    send: "Send", "发送";
    edit: "Edit", "编辑";
    regenerate: "Again", "重新生成";
    details: "Details", "详情";
    thinking: "Thoughts", "思考过程";
    new_chat: "New chat", "新对话";
    start_chat: "Ask about a picture, or just talk.", "可以就图片提问，也可以直接聊天。";
    small_model: "The model inside is very small: it describes simple pictures in English. Choose another for real conversations.", "内置模型很小，只能用英语描述简单图片。如需真正的对话，请选择其他模型。";
    tokens_per_s: "tokens/s", "词元/秒";
    first_token: "to the first token", "首个词元";
    prompt_tokens: "tokens read", "已读词元";
    of_them_cached: "of them cached", "其中已缓存";
    inside: "The model inside", "内置模型";
    inside_text: "About 21 MB, kept on this device. Simple pictures, in English.", "约 21 MB，保存在本机。描述简单图片，英语。";
    from_disk: "From your disk", "来自您的磁盘";
    from_disk_text: "A GGUF file, or a folder with config.json and safetensors. It is read here and sent nowhere.", "GGUF 文件，或包含 config.json 与 safetensors 的文件夹。仅在本机读取，不会上传。";
    choose_file: "Choose a file", "选择文件";
    choose_folder: "Choose a folder", "选择文件夹";
    from_url: "From an address", "来自网址";
    from_url_text: "A .gguf file, fetched once with resume and kept on this device.", "GGUF 文件，只下载一次，支持断点续传，并保存在本机。";
    address: "Address", "网址";
    from_server: "From ocelli serve", "来自 ocelli serve";
    from_server_text: "A server computes, on this machine or another. It has to allow this page:", "由本机或其他机器上的服务器计算。它需要允许此页面：";
    key: "Key, if it wants one", "密钥（如需要）";
    load: "Load", "加载";
    use_it: "Use", "使用";
    limits: "A page can hold models up to about 3 GB.", "网页最多可容纳约 3 GB 的模型。";
    device_memory: "This device has at least", "本机内存至少";
    stored: "Kept on this device", "保存在本机";
    nothing_stored: "Nothing yet.", "暂无。";
    forget: "Remove", "删除";
    runs_on: "Runs on", "运行于";
    why: "because", "原因：";
    compute_on: "Compute on", "计算设备";
    fastest: "whatever is faster", "自动选择较快者";
    processor: "the processor", "处理器";
    gpu: "the graphics processor", "图形处理器";
    server: "a server", "服务器";
    room: "used for this site, of at most", "已用于此网站，上限";
    this_machine: "This machine", "本机";
    this_machine_text: "The program that serves this page computes, keeps conversations and can use tools.", "由提供此页面的程序计算，它保存对话并可使用工具。";
    served: "Everything is computed by the program that serves this page, and conversations are kept there.", "一切由提供此页面的程序计算，对话也保存在那里。";
    choose_region: "Ask about a region", "就某一区域提问";
    drag_region: "Drag across what you want to ask about, or give its place in percent.", "拖动选择要提问的区域，或以百分比输入其位置。";
    left: "Left", "左";
    top: "Top", "上";
    width: "Width", "宽";
    height: "Height", "高";
    conversations: "Conversations", "历史对话";
    search: "Search", "搜索";
    none_kept: "Nothing found.", "没有内容。";
    not_ended: "The last task has not ended.", "上一个任务尚未结束。";
    go_on: "Go on", "继续";
    tools: "Tools", "工具";
    may_run: "May this run exactly as shown?", "是否允许完全按此执行？";
    changes_nothing: "it changes nothing", "不会更改任何内容";
    changes_something: "it changes something", "会更改内容";
    reaches_beyond: "it reaches beyond what was granted", "超出已授权的范围";
    has_read: "The model has read words from", "模型读取过以下来源的文字：";
    may_have_told: ", which may have told it to.", "，可能是受其指使。";
    a_picture: "a picture", "图片";
    a_file: "a file", "文件";
    the_web: "the web", "网页";
    a_tool: "a tool", "工具";
    yes: "Yes", "允许";
    no: "No", "不允许";
    always: "Always for", "始终允许：";
    never: "Never for", "始终拒绝：";
    this_tool: "this tool", "此工具";
    folder: "the folder", "文件夹";
    host: "the host", "主机";
    tool_server: "the tool server", "工具服务器";
    cut_off: "The answer was cut off.", "回答被截断。";
    used_up: "The task used up its", "任务已用尽：";
    engine_died: "The engine stopped and was started again", "引擎已停止并重新启动";
}

impl Language {
    /// Its words.
    pub(crate) fn words(self) -> &'static Words {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }

    /// The one that a tag such as `zh-TW` asks for.
    pub(crate) fn of(tag: &str) -> Self {
        if tag.to_ascii_lowercase().starts_with("zh") { Self::Chinese } else { Self::English }
    }

    /// The one that is not this.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::English => Self::Chinese,
            Self::Chinese => Self::English,
        }
    }
}
