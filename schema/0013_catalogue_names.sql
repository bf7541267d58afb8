-- Providers that were here before the catalogue, or before kinds, under another name than it has for them.

UPDATE provider SET catalogue = CASE catalogue
    WHEN 'xai' THEN 'x-ai' WHEN 'grok' THEN 'x-ai'
    WHEN 'gemini' THEN 'google'
    WHEN 'together-ai' THEN 'together' WHEN 'togetherai' THEN 'together'
    WHEN 'hf' THEN 'huggingface' WHEN 'hugging-face' THEN 'huggingface'
    ELSE 'mistral' END
WHERE catalogue IN ('xai', 'grok', 'gemini', 'together-ai', 'togetherai', 'hf', 'hugging-face', 'mistralai');

-- What their own lists have said is asked for anew under that name.
DELETE FROM catalogue WHERE package_of = '' AND provider IN
  ('xai', 'grok', 'gemini', 'together-ai', 'togetherai', 'hf', 'hugging-face', 'mistralai');
