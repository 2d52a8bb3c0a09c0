alter type mood add value 'calm';
