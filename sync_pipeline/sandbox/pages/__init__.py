"""Pages where a person sees each system as sales or finance would, and acts in it: plain HTML and forms."""
