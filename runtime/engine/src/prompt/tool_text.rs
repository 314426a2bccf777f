//! Tools for templates that know none: in the words of messages that every template knows.

use model::config::Config;
use serde_json::{Value, json};

use crate::chat_template::{ChatTemplate, RenderOptions};
use crate::{Message, Part, Role, Tool};

/// What a template does with tools by itself; what it does not is put into texts of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ToolSupport {
    /// Tells the model which tools there are.
    pub(crate) lists_tools: bool,
    /// Shows the calls of earlier turns.
    pub(crate) writes_calls: bool,
    /// Shows the results of calls.
    pub(crate) writes_results: bool,
}

const PROBE: &str = "ocelli_probe";

impl ToolSupport {
    /// Renders conversations with tools and looks whether they show.
    pub(crate) fn of(template: &ChatTemplate, config: &Config) -> Self {
        let content = |text: &str| match config.vision {
            Some(_) => json!([{ "type": "text", "text": text }]),
            None => json!(text),
        };
        let call = |name: &str| {
            json!({
                "role": "assistant", "content": content(""),
                "tool_calls": [{ "type": "function", "id": "call_0", "function": { "name": name, "arguments": {} } }],
            })
        };
        let result =
            |text: &str| json!({ "role": "tool", "content": content(text), "tool_call_id": "call_0" });
        let user = json!({ "role": "user", "content": content("?") });
        let shows = |messages: &Value, tools: Option<Value>| {
            let options = RenderOptions { add_generation_prompt: Some(true), tools, ..Default::default() };
            template.render(messages, &options, &|text| text.into()).is_ok_and(|text| text.contains(PROBE))
        };
        let tool = Tool { name: PROBE.into(), description: String::new(), parameters: json!({}) };
        Self {
            lists_tools: shows(&json!([user]), Some(json!([tool.to_json()]))),
            writes_calls: shows(&json!([user, call(PROBE), result("x")]), None),
            writes_results: shows(&json!([user, call("x"), result(PROBE)]), None),
        }
    }

    /// The conversation as the template can show it.
    pub(crate) fn adapt(self, messages: &[Message], tools: &[&Tool]) -> Vec<Message> {
        let mut adapted: Vec<Message> = messages.iter().map(|message| self.adapt_message(message)).collect();
        if !self.lists_tools && !tools.is_empty() {
            let text = list(tools);
            match adapted.first_mut().filter(|message| message.role == Role::System) {
                Some(system) => system.parts.push(Part::Text(format!("\n\n{text}"))),
                None => adapted.insert(0, Message::text(Role::System, text)),
            }
        }
        adapted
    }

    fn adapt_message(self, message: &Message) -> Message {
        let mut message = message.clone();
        if !self.writes_calls {
            for part in &mut message.parts {
                if let Part::ToolCall(call) = part {
                    let json = crate::chat_template::python_json(&call.to_json());
                    *part = Part::Text(format!("<tool_call>\n{json}\n</tool_call>\n"));
                }
            }
        }
        if !self.writes_results && message.role == Role::Tool {
            message.role = Role::User;
            message.parts.insert(0, Part::Text("<tool_response>\n".into()));
            message.parts.push(Part::Text("\n</tool_response>".into()));
        }
        message
    }
}

fn list(tools: &[&Tool]) -> String {
    let tools: Vec<String> =
        tools.iter().map(|tool| crate::chat_template::python_json(&tool.to_json()["function"])).collect();
    format!(
        "You can use these tools:\n[{}]\nTo use one, write\n<tool_call>\n\
         {{\"name\": \"its name\", \"arguments\": {{…}}}}\n</tool_call>\n\
         and nothing after it. The result comes with the next message.",
        tools.join(", ")
    )
}
